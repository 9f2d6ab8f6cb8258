/** How the page looks: light and dark, from 320 px on. */
export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --page: #f1f3f9;
  --card: #ffffff;
  --line: #dde1ec;
  --soft: #eef0f7;
  --text: #171a2b;
  --quiet: #565c76;
  --accent: #4f46e5;
  --turns: #4f46e5;
  --waiting: #b45309;
  --expired: #be185d;
  --states: #0f766e;
  --good: #0f766e;
  --warm: #92400e;
  --warm-soft: #fdf0d8;
  --bad: #b3173a;
  --bad-soft: #fde8ec;
  --shadow: 0 1px 2px rgb(23 26 43 / 5%), 0 8px 24px -16px rgb(23 26 43 / 22%);
  --gap: clamp(0.75rem, 1.6vw, 1.25rem);
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1018;
    --card: #171a26;
    --line: #2a2e41;
    --soft: #202435;
    --text: #f0f1f9;
    --quiet: #a3a9c3;
    --accent: #a29bff;
    --turns: #a29bff;
    --waiting: #f3b562;
    --expired: #ff93c1;
    --states: #4fd1c5;
    --good: #4fd1c5;
    --warm: #f6c177;
    --warm-soft: #3a2b12;
    --bad: #ff8fa6;
    --bad-soft: #401826;
    --shadow: none;
  }
}
* {
  box-sizing: border-box;
}
[hidden] {
  display: none !important;
}
html {
  -webkit-text-size-adjust: 100%;
}
body {
  max-width: 84rem;
  min-height: 100vh;
  margin: 0 auto;
  padding: var(--gap) max(var(--gap), env(safe-area-inset-right)) calc(var(--gap) * 2)
    max(var(--gap), env(safe-area-inset-left));
  font: 0.9375rem/1.45 ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif;
  font-variant-numeric: tabular-nums;
  color: var(--text);
  background: var(--page);
}
h1,
h2,
p,
dl,
dd {
  margin: 0;
}
h1 {
  font-size: 1.375rem;
  line-height: 1.2;
  letter-spacing: -0.015em;
}
h2 {
  font-size: 0.9375rem;
  font-weight: 600;
}
.unseen {
  position: absolute;
  width: 1px;
  height: 1px;
  overflow: hidden;
  clip-path: inset(50%);
  white-space: nowrap;
}

header {
  display: flex;
  flex-wrap: wrap;
  align-items: center;
  gap: 0.5rem 0.75rem;
  margin-bottom: var(--gap);
}
header > div {
  flex: 1 1 100%;
  min-width: 0;
}
#pause {
  margin-left: auto;
}
#about {
  color: var(--quiet);
  font-size: 0.875rem;
}
#processes {
  color: var(--quiet);
  font-size: 0.875rem;
}
#status {
  display: inline-flex;
  align-items: center;
  gap: 0.5rem;
  min-height: 2.25rem;
  padding: 0 0.875rem;
  border: 1px solid var(--line);
  border-radius: 99rem;
  font-size: 0.875rem;
  background: var(--card);
}
#status::before {
  content: '';
  width: 0.5rem;
  height: 0.5rem;
  border-radius: 50%;
  background: var(--quiet);
}
[data-connection='live'] #status::before {
  background: var(--good);
  box-shadow: 0 0 0 3px color-mix(in srgb, var(--good) 22%, transparent);
}
[data-connection='lost'] #status {
  border-color: var(--bad);
  color: var(--bad);
}
[data-connection='lost'] #status::before {
  background: var(--bad);
}
button,
select {
  min-height: 2.25rem;
  padding: 0 0.875rem;
  border: 1px solid var(--line);
  border-radius: 0.625rem;
  font: inherit;
  font-size: 0.875rem;
  color: inherit;
  background: var(--card);
}
button {
  min-width: 5.5rem;
  font-weight: 600;
  cursor: pointer;
}
button:hover {
  border-color: var(--accent);
}
:focus-visible {
  outline: 2px solid var(--accent);
  outline-offset: 2px;
}
#trouble,
.trouble {
  margin-bottom: var(--gap);
  padding: 0.75rem 1rem;
  border-radius: 0.75rem;
  color: var(--bad);
  background: var(--bad-soft);
}

main {
  display: grid;
  grid-template-columns: minmax(0, 1fr);
  gap: var(--gap);
  align-items: start;
}
[data-connection='lost'] main {
  opacity: 0.85;
  filter: grayscale(1);
}
.card {
  min-width: 0;
  padding: clamp(0.75rem, 1.5vw, 1.125rem);
  border: 1px solid var(--line);
  border-radius: 0.875rem;
  background: var(--card);
  box-shadow: var(--shadow);
}
.note,
.empty,
.detail,
.axis {
  color: var(--quiet);
  font-size: 0.8125rem;
}
.empty {
  padding: 1.75rem 0 1.25rem;
  text-align: center;
}

.plots {
  display: grid;
  grid-template-columns: repeat(2, minmax(0, 1fr));
  gap: var(--gap);
}
.plot h2 {
  color: var(--quiet);
  font-size: 0.8125rem;
}
.plot .value {
  overflow: hidden;
  font-size: clamp(1.5rem, 2.6vw, 2rem);
  font-weight: 650;
  line-height: 1.25;
  letter-spacing: -0.02em;
  white-space: nowrap;
}
.detail {
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}
.canvas {
  position: relative;
  margin-top: 0.625rem;
  border-bottom: 1px solid var(--line);
  background: linear-gradient(var(--line), var(--line)) 0 0 / 100% 1px no-repeat;
}
.canvas svg {
  display: block;
  width: 100%;
  height: clamp(3.5rem, 7vw, 5rem);
}
.canvas .top {
  position: absolute;
  top: 0.125rem;
  left: 0;
  padding: 0 0.25rem 0 0;
  font-size: 0.6875rem;
  color: var(--quiet);
  background: var(--card);
}
.axis {
  display: flex;
  justify-content: space-between;
  padding-top: 0.25rem;
  font-size: 0.6875rem;
}
.line {
  fill: none;
  stroke: var(--ink);
  stroke-width: 2;
  stroke-linejoin: round;
  stroke-linecap: round;
  vector-effect: non-scaling-stroke;
}
.area {
  fill: var(--ink);
  opacity: 0.12;
}
#turns {
  --ink: var(--turns);
}
#waiting {
  --ink: var(--waiting);
}
#expired {
  --ink: var(--expired);
}
#states {
  --ink: var(--states);
}

table {
  width: 100%;
  margin-top: 0.5rem;
  border-collapse: collapse;
}
th,
td {
  padding: 0.4375rem 0 0.4375rem 0.75rem;
  border-top: 1px solid var(--soft);
  font-weight: 400;
  text-align: left;
  vertical-align: top;
}
th:first-child,
td:first-child {
  padding-left: 0;
  overflow-wrap: anywhere;
}
thead th {
  border-top: 0;
  padding-bottom: 0.25rem;
  font-size: 0.75rem;
  color: var(--quiet);
}
.number {
  text-align: right;
  white-space: nowrap;
}
tbody th {
  font-weight: 550;
}
.under {
  display: block;
  font-size: 0.75rem;
  font-weight: 400;
  color: var(--quiet);
}
.hash {
  font-family: ui-monospace, 'SF Mono', Menlo, Consolas, monospace;
}
.bar {
  display: block;
  height: 3px;
  margin-top: 0.375rem;
  border-radius: 2px;
  background: var(--soft);
}
.bar > span {
  display: block;
  height: 100%;
  min-width: 2px;
  border-radius: inherit;
  background: var(--states);
}
#locks .bar > span {
  background: var(--turns);
}
.tag {
  padding: 0.0625rem 0.375rem;
  border-radius: 0.375rem;
  font-size: 0.6875rem;
  font-weight: 600;
  color: var(--warm);
  background: var(--warm-soft);
}
[data-level='slow'] .bar > span {
  background: var(--waiting) !important;
}
[data-level='ending'] .bar > span {
  background: var(--bad) !important;
}
[data-level='ending'] .tag {
  color: var(--bad);
  background: var(--bad-soft);
}
.waits {
  font-weight: 600;
  color: var(--waiting);
}

dl {
  display: grid;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr));
  gap: 0 calc(var(--gap) * 1.5);
  margin-top: 0.5rem;
}
dl > div {
  display: flex;
  justify-content: space-between;
  gap: 1rem;
  padding: 0.375rem 0;
  border-top: 1px solid var(--soft);
}
dt {
  color: var(--quiet);
}
dd {
  font-weight: 550;
  text-align: right;
}

@media (max-width: 35.99rem) {
  #processes span {
    position: absolute;
    width: 1px;
    height: 1px;
    overflow: hidden;
    clip-path: inset(50%);
  }
}
@media (min-width: 36rem) {
  header > div {
    flex: 1 1 14rem;
  }
  #pause {
    margin-left: 0;
  }
}
@media (min-width: 56rem) {
  main {
    grid-template-columns: minmax(0, 3fr) minmax(0, 2fr);
  }
  .plots {
    grid-template-columns: repeat(4, minmax(0, 1fr));
  }
  .plots,
  #options {
    grid-column: 1 / -1;
  }
}
`.trimStart();
