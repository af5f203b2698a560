// What a person does in VS Code in the browser, over the DevTools protocol: opens the page, types in its terminal, edits a file
// and saves it. Says each step on a line once the page shows that it is done; what came of it on the disk is the test's to see.
//
//   node drive.js URL PROXY FILE WORDS COMMAND ANSWER
//
// URL is the editor's page, reached through the SOCKS proxy PROXY (`127.0.0.1:1080`); FILE is opened from the tree, and WORDS
// are put at its end; COMMAND is typed in the terminal, which then has to show
// ANSWER.
const puppeteer = require('puppeteer-core');

const [url, proxy, file, words, command, answer] = process.argv.slice(2);
const patience = { timeout: 60_000 };

async function main() {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking',
      `--proxy-server=socks5://${proxy}`, '--proxy-bypass-list=<-loopback>', // loopback, too, goes through the proxy
    ],
  });
  try {
    const page = await browser.newPage();
    await page.setViewport({ width: 1280, height: 900 });
    await page.goto(url, patience);
    await page.waitForSelector('.monaco-workbench .statusbar-item', patience);
    console.log('opened');

    await keys(page, ['Control', 'Backquote']);
    await page.waitForSelector('.terminal-wrapper .xterm-screen', patience);
    await focus(page, '.terminal-wrapper .xterm-screen', '.xterm-helper-textarea');
    const rows = () => document.querySelector('.terminal-wrapper .xterm-rows')?.textContent ?? '';
    await page.waitForFunction(`(${rows})().trim() !== ''`, patience); // the prompt: nothing typed before it is sure to arrive
    await page.keyboard.type(`${command}\n`);
    await page.waitForFunction(`(${rows})().includes(${JSON.stringify(answer)})`, patience);
    console.log('typed');

    const inTree = `.explorer-folders-view .monaco-list-row[aria-label^="${file}"]`;
    await page.waitForSelector(inTree, patience);
    await page.click(inTree, { count: 2 });
    await page.waitForSelector(`.tab.active[data-resource-name="${file}"]`, patience);
    await page.waitForSelector('.editor-instance .view-lines', patience); // the tab is there before what it shows
    await focus(page, '.editor-instance .view-lines', '.editor-instance *');
    await keys(page, ['Control', 'End']);
    await page.keyboard.type(words);
    await page.waitForSelector('.tab.active.dirty', patience);
    console.log('edited');
    await keys(page, ['Control', 'KeyS']);
    await page.waitForSelector('.tab.active:not(.dirty)', patience);
    console.log('saved');
  } catch (error) {
    const shown = await browser.pages().then((pages) => pages.at(-1)?.evaluate(() => document.body.innerText.slice(0, 2000)));
    console.error(`the page shows: ${shown}`);
    throw error;
  } finally {
    await browser.close();
  }
}

/** Clicks until the focus is there: what else the page opens may take it, even right after a click. */
async function focus(page, clicked, focused) {
  const limit = Date.now() + patience.timeout;
  for (;;) {
    await page.click(clicked);
    try {
      const there = (selector) => document.activeElement?.matches(selector) ?? false;
      await page.waitForFunction(there, { timeout: 2_000 }, focused);
      return;
    } catch (error) {
      if (Date.now() > limit) throw error;
    }
  }
}

/** Holds all but the last, presses the last. */
async function keys(page, [held, pressed]) {
  await page.keyboard.down(held);
  await page.keyboard.press(pressed);
  await page.keyboard.up(held);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
