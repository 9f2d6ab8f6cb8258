interface Plot {
  readonly id: string;
  readonly title: string;
}

const PLOTS: readonly Plot[] = [
  { id: 'turns', title: 'Open turns' },
  { id: 'waiting', title: 'Waiting' },
  { id: 'expired', title: 'Expired / min' },
  { id: 'states', title: 'States' },
];

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"]/g, (character) => ESCAPES[character] as string);
}

// What is drawn is stretched to the width there is: words and numbers stand beside it.
const plot = ({ id, title }: Plot): string => `
        <article class="card plot" id="${id}">
          <h2>${title}</h2>
          <p class="value">–</p>
          <p class="detail">&nbsp;</p>
          <div class="canvas">
            <svg viewBox="0 0 120 40" preserveAspectRatio="none" role="img" aria-label="${title}, no data yet">
              <path class="area" d="" />
              <path class="line" d="" />
            </svg>
            <span class="top" aria-hidden="true"></span>
          </div>
          <p class="axis" aria-hidden="true"><span>2 min ago</span><span>now</span></p>
        </article>`;

/** The page, empty: everything in it comes with the data. `folder` is where its files are, `query` what they are asked for with. */
export function pageHtml(folder: string, query: string): string {
  const url = (file: string): string => escapeHtml(`${folder}${file}${query}`);
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <meta name="robots" content="noindex">
    <title>States</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="${url('page.css')}">
    <script type="module" src="${url('page.js')}"></script>
  </head>
  <body data-connection="loading">
    <header>
      <div>
        <h1>States</h1>
        <p id="about">&nbsp;</p>
      </div>
      <label id="processes" hidden><span>Process</span> <select></select></label>
      <p id="status" role="status">Loading…</p>
      <button id="pause" type="button" aria-pressed="false">Pause</button>
    </header>
    <p id="trouble" role="alert" hidden></p>
    <noscript><p class="trouble">This page needs JavaScript to show its numbers.</p></noscript>
    <main aria-busy="true">
      <section class="plots" aria-label="Live">${PLOTS.map((each) => plot(each)).join('')}
      </section>
      <section class="card" id="locks">
        <h2>Longest held locks</h2>
        <p class="note">&nbsp;</p>
        <table>
          <caption class="unseen">Locks that are held now, those that have been held longest first</caption>
          <thead>
            <tr><th scope="col">Handler</th><th scope="col" class="number">Held</th><th scope="col" class="number">Waiting</th></tr>
          </thead>
          <tbody></tbody>
        </table>
        <p class="empty">Loading…</p>
      </section>
      <section class="card" id="classes">
        <h2>State classes</h2>
        <p class="note">&nbsp;</p>
        <table>
          <caption class="unseen">How many states there are of each class, and how large they are</caption>
          <thead>
            <tr>
              <th scope="col">Class</th><th scope="col" class="number">States</th>
              <th scope="col" class="number">Each</th><th scope="col" class="number">Together</th>
            </tr>
          </thead>
          <tbody></tbody>
        </table>
        <p class="empty">Loading…</p>
      </section>
      <section class="card" id="options">
        <h2>Options in force</h2>
        <p class="note">Without addresses, prefixes, paths and secrets.</p>
        <dl></dl>
      </section>
    </main>
  </body>
</html>
`;
}
