// Calls of gRPC-Web as a browser makes them with fetch (`web`), and as Node makes them in HTTP/1 (`1.1`) or HTTP/2 (`2`).
// Start: node grpc_web.cjs URL web|1.1|2     prints a report as JSON
const { Code, ConnectError, createClient } = require('@connectrpc/connect');
const { createGrpcWebTransport: inNode } = require('@connectrpc/connect-node');
const { createGrpcWebTransport: inBrowsers } = require('@connectrpc/connect-web');
const { Pilot } = require('../apps/pilot.cjs');

const [, , baseUrl, spoken] = process.argv;
const transport = spoken === 'web' ? inBrowsers({ baseUrl }) : inNode({ baseUrl, httpVersion: spoken });
const pilot = createClient(Pilot, transport);

async function unary() {
  let header, trailer;
  const answer = await pilot.echo(
    { text: 'ahoy ⚓' },
    { onHeader: (headers) => (header = headers), onTrailer: (trailers) => (trailer = trailers) },
  );
  return [answer.text, header.get('initial'), trailer.get('final')];
}

async function returned(size) {
  const text = '0123456789abcdef'.repeat(size / 16);
  return (await pilot.echo({ text })).text === text;
}

async function stream() {
  const said = [];
  for await (const words of pilot.tell({})) {
    said.push(words.text);
    if (said.length === 1) await pilot.goOn({});
  }
  return said;
}

// What a call comes to, or why it failed.
function outcome(call) {
  return call().catch((error) => {
    const told = ConnectError.from(error);
    return [Code[told.code], told.rawMessage];
  });
}

// A call that waits for ever is ended by the client, and the server hears of it.
async function cancelled() {
  const cancel = new AbortController();
  const [told] = await outcome(async () => {
    for await (const _ of pilot.wait({}, { signal: cancel.signal })) cancel.abort();
  });
  return [told, (await pilot.wasAbandoned({})).text];
}

async function report() {
  return {
    unary: await outcome(unary),
    large: await outcome(() => returned(4 * 1024 * 1024)),
    stream: await outcome(stream),
    refused: await outcome(() => pilot.refuse({})),
    cancelled: await outcome(cancelled),
  };
}

report().then((report) => {
  console.log(JSON.stringify(report));
  // It keeps its connections.
  process.exit();
});
