// The library under Vite's dev proxy, with an agent that keeps upstream connections: without it, one per request.
const http = require("http");
const { createProxyServer } = require("@PEERS@/node/node_modules/http-proxy-3");

const agent = new http.Agent({ keepAlive: true, maxFreeSockets: 2048 });
const proxy = createProxyServer({ target: "http://127.0.0.1:@ORIGIN@", xfwd: true, agent });
proxy.on("error", (_error, _request, response) => response.writeHead(502).end());
http.createServer((request, response) => proxy.web(request, response)).listen(@PORT@, "127.0.0.1", 4096);
