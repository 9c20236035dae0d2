// Node's own client of an upgrade that is no WebSocket: says one thing after the other, then nothing more.
// Start: node upgrade.cjs URL     prints a report as JSON
const http = require('node:http');
const https = require('node:https');
const readline = require('node:readline');

const { get } = process.argv[2].startsWith('https:') ? https : http;
get(process.argv[2], { headers: { connection: 'Upgrade', upgrade: 'shout' } }).on('upgrade', async (answer, socket, head) => {
  socket.unshift(head);
  const words = ['who', 'goes', 'there'];
  const heard = [];
  for await (const line of readline.createInterface({ input: socket })) {
    heard.push(line);
    // The next thing is said only when the last one was answered.
    if (words.length > 0) socket.write(`${words.shift()}\n`);
    else if (!socket.writableEnded) socket.end();
  }
  console.log(JSON.stringify({ protocol: answer.headers.upgrade, heard }));
});
