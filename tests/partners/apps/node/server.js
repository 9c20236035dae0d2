// A server that takes any free port and tells nobody.
const { createServer } = require('node:http');

createServer((request, response) => response.end('moored in Node')).listen(Number(process.env.BERTH ?? 0), '127.0.0.1');
