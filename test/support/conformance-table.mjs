// What the conformance suite has said of each manager, side by side.

/**
 * @param {readonly { ancestorTitles: readonly string[], status: string }[]} results Of the files of test/conformance.
 * @returns {string} A table in Markdown: topics, and how many of their promises each manager keeps. A topic that does not
 * apply has none.
 */
export function conformanceTable(results) {
  const managers = [];
  /** @type {Map<string, Map<string, { passed: number, failed: number }>>} */
  const topics = new Map();
  for (const { ancestorTitles, status } of results) {
    const [manager, topic] = ancestorTitles;
    if (topic === undefined || (status !== 'passed' && status !== 'failed')) continue;
    if (!managers.includes(manager)) managers.push(manager);
    if (!topics.has(topic)) topics.set(topic, new Map());
    const counts = topics.get(topic).get(manager) ?? { passed: 0, failed: 0 };
    counts[status] += 1;
    topics.get(topic).set(manager, counts);
  }
  managers.sort();
  const rows = [...topics].map(([topic, of]) => [
    topic,
    ...managers.map((manager) => cellOf(of.get(manager))),
  ]);
  const total = managers.map((manager) => {
    const all = { passed: 0, failed: 0 };
    for (const of of topics.values()) {
      all.passed += of.get(manager)?.passed ?? 0;
      all.failed += of.get(manager)?.failed ?? 0;
    }
    return cellOf(all);
  });
  return [['promises kept', ...managers], ['---', ...managers.map(() => '---:')], ...rows, ['all', ...total]]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

function cellOf(counts) {
  if (counts === undefined) return '–';
  return counts.failed === 0 ? String(counts.passed) : `${counts.passed}, FAILED ${counts.failed}`;
}
