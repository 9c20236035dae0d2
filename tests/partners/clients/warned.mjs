// Opens a page in Chromium with nothing made easy, and prints the error that the browser shows instead of it, or null.
//
// node warned.mjs URL     whatever its host is, the browser goes to 127.0.0.1
import { createRequire } from 'node:module';

const { chromium } = createRequire(import.meta.url)('playwright-core');

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: [
    '--no-sandbox', // CI runs as root, where Chromium's sandbox does not start
    '--disable-gpu',
    '--disable-quic',
    '--no-proxy-server',
    '--host-resolver-rules=MAP * 127.0.0.1',
  ],
});
try {
  const page = await browser.newPage();
  const error = await page.goto(process.argv[2]).then(
    () => null,
    (error) => error.message.match(/net::(\w+)/)?.[1] ?? error.message,
  );
  console.log(JSON.stringify(error));
} finally {
  await browser.close();
}
