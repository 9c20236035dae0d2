// Node's own HTTP server with bodies of any size: an upload is hashed as it comes, a download is read from a file.
// Start: PORT=0 node bodies.cjs FILE
const { createHash } = require('node:crypto');
const { createReadStream, statSync } = require('node:fs');
const { createServer } = require('node:http');
const { pipeline } = require('node:stream');

const file = process.argv[2];

async function upload(request, response) {
  const digest = createHash('sha256');
  let length = 0;
  for await (const chunk of request) {
    digest.update(chunk);
    length += chunk.length;
  }
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ sha256: digest.digest('hex'), length }));
}

function download(response) {
  response.setHeader('content-type', 'application/octet-stream');
  response.setHeader('content-length', statSync(file).size);
  pipeline(createReadStream(file), response, () => {});
}

const server = createServer((request, response) => {
  if (request.method === 'POST') upload(request, response).catch(() => response.destroy());
  else download(response);
});

server.listen(Number(process.env.PORT), '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
