// The main process of a PM2 messaging tutorial: it hears what the workers send, and passes it on to the one whose job it is.
// Started beside the workers: receiver is process 0, chat is 1, db is 2.
const pm2 = require('pm2');

const RECEIVER = 0;
const CHAT = 1;
const DB = 2;

const ROUTES = {
  'chat:say': CHAT,
  'db:store': DB,
  'db:stored': CHAT,
  'chat:said': RECEIVER,
};

pm2.connect((err) => {
  if (err) {
    console.error(err);
    process.exit(2);
  }

  pm2.launchBus((err, bus) => {
    if (err) {
      console.error(err);
      process.exit(2);
    }
    for (const [event, id] of Object.entries(ROUTES)) {
      bus.on(event, (packet) => {
        pm2.sendDataToProcessId(id, { type: 'process:msg', data: packet.data, topic: event }, (err, result) => {
          if (err) console.error(err);
          else if (!result.success) console.error('not sent', result);
        });
      });
    }

    pm2.list((err, list) => {
      if (err) throw err;
      for (const worker of list) console.log(worker.pm_id, worker.pm2_env.status, worker.monit.memory > 0);
      console.log('listening');
    });
  });
});

process.on('SIGTERM', () => {
  pm2.disconnect();
});
