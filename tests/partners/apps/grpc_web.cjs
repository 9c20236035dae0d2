// A gRPC-Web server, in HTTP/1 or in HTTP/2 without TLS.
// Start: PORT=0 node grpc_web.cjs http|http2
const { EventEmitter, once } = require('node:events');
const { Code, ConnectError } = require('@connectrpc/connect');
const { connectNodeAdapter } = require('@connectrpc/connect-node');
const { Pilot } = require('./pilot.cjs');

const words = new EventEmitter();
let abandoned = Promise.resolve();

const pilot = {
  echo(request, context) {
    context.responseHeader.set('initial', 'fathoms');
    context.responseTrailer.set('final', 'moored');
    return { text: request.text };
  },
  // Says the second thing only when it is told to, which happens after the first one was read.
  async *tell() {
    const told = once(words, 'go on');
    yield { text: 'first' };
    await told;
    yield { text: 'second' };
  },
  goOn() {
    words.emit('go on');
    return {};
  },
  refuse() {
    throw new ConnectError('the tide is out: ⚓ 100 %', Code.FailedPrecondition);
  },
  async *wait(_request, context) {
    abandoned = once(context.signal, 'abort');
    yield { text: 'waiting' };
    await abandoned;
  },
  async wasAbandoned() {
    await abandoned;
    return { text: 'yes' };
  },
};

const routes = connectNodeAdapter({
  connect: false,
  grpc: false,
  grpcWeb: true,
  routes: (router) => router.service(Pilot, pilot),
});
const server = require(`node:${process.argv[2]}`).createServer(routes);
server.listen(Number(process.env.PORT), '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
