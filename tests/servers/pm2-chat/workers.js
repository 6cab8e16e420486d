// The three of them as workers of one app, by their numbers. Only the receiver listens.
const role = ['receiver', 'chat', 'db'][Number(process.env.NODE_APP_INSTANCE)];
require(`./${role}.js`);

if (role !== 'receiver') process.send('ready');
