// A server that takes any free port, or the one that it is given, and tells nobody.
const { createServer } = require('node:http');

createServer((request, response) => response.end('moored in Node')).listen(Number(process.argv[2] ?? 0), '127.0.0.1');
