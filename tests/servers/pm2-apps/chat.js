// Chat: has each line stored, and says what came of it.
process.on('message', (packet) => {
  if (packet.topic === 'chat:say') {
    process.send({ type: 'db:store', data: { ...packet.data, text: packet.data.text.toUpperCase() } });
  }
  if (packet.topic === 'db:stored') {
    process.send({ type: 'chat:said', data: packet.data });
  }
});

process.send('ready');
