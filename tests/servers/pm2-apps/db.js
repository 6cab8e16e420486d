// The data base: numbers the lines.
const lines = [];

process.on('message', (packet) => {
  if (packet.topic !== 'db:store') return;
  lines.push(packet.data.text);
  process.send({ type: 'db:stored', data: { ...packet.data, number: lines.length } });
});

process.send('ready');
