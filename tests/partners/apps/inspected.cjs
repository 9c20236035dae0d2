// Does nothing but run, for a debugger to ask it things.
//
// Start: node --inspect=127.0.0.1:PORT inspected.cjs
globalThis.depth = 42;
setInterval(() => {}, 1000);
