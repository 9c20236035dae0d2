// The browser story: Chromium opens the Vite page through the proxy, sees Flask's answer on it, and sees an edit of a
// module arrive over the proxied HMR WebSocket while the page stays loaded. By an https URL all of it comes over HTTP/2,
// under a certificate that the browser finds nothing wrong with.
//
// node browser.mjs URL MODULE [SCREENSHOT]
//   URL         where the proxy is, such as http://127.0.0.1:62893/
//   MODULE      the copy of chart.js that Vite serves; it is edited
//   SCREENSHOT  where to write a PNG of the page as it ends
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

// `import` knows no NODE_PATH, `require` does: the package is not beside this file but where setup put it.
const { chromium } = createRequire(import.meta.url)('playwright-core');

const [url, module, screenshot] = process.argv.slice(2);
const BEFORE = 'before the edit';
const AFTER = 'after the edit';

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: [
    '--no-sandbox', // CI runs as root, where Chromium's sandbox does not start
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--no-proxy-server', // the only proxy here is the one under test
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  const seen = watch(page);
  await story(page, seen).catch((error) => {
    throw new Error(`the browser saw ${JSON.stringify(seen, null, 2)}`, { cause: error });
  });
  if (screenshot) await page.screenshot({ path: screenshot });
} finally {
  await browser.close();
}

async function story(page, seen) {
  await Promise.all([
    page.waitForEvent('console', (message) => message.text().includes('[vite] connected')),
    page.goto(url),
  ]);
  const protocol = await page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);
  assert.equal(protocol, new URL(url).protocol === 'https:' ? 'h2' : 'http/1.1');
  await text(page, '#api', 'hello from Flask');
  await text(page, '#chart', BEFORE);

  await page.evaluate(() => {
    window.stillTheSamePage = true;
  });
  await writeFile(module, (await readFile(module, 'utf8')).replace(BEFORE, AFTER));
  await text(page, '#chart', AFTER);
  assert.equal(await page.evaluate(() => window.stillTheSamePage), true, 'the page was not loaded again');

  // Where the proxied WebSocket fails, Vite's client falls back to Vite's own port, and edits arrive all the same.
  assert.deepEqual(seen.sockets, [new URL(url).host], 'one WebSocket, it led to the proxy, and it was never lost');
  assert.deepEqual(seen.problems, []);
}

/** Notes where WebSockets lead, and everything that a developer would see in red. */
function watch(page) {
  const seen = { sockets: [], problems: [] };
  page.on('websocket', (socket) => seen.sockets.push(new URL(socket.url()).host));
  page.on('console', (message) => {
    if (message.type() === 'error') seen.problems.push(message.text());
  });
  page.on('pageerror', (error) => seen.problems.push(`error: ${error.message}`));
  page.on('requestfailed', (request) => seen.problems.push(`failed: ${request.url()}`));
  page.on('response', (response) => {
    if (response.status() >= 400) seen.problems.push(`${response.status()}: ${response.url()}`);
  });
  return seen;
}

/** Waits until the element holds exactly this text. */
function text(page, selector, expected) {
  return page.waitForFunction(
    ([selector, expected]) => document.querySelector(selector)?.textContent === expected,
    [selector, expected],
  );
}
