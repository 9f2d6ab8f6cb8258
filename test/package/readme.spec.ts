import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import ts from 'typescript';
import { parseDurationMs } from '../../lib/internal/duration.js';
import { resolveStateOptions } from '../../lib/state.options.resolve.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const readme = readFileSync(`${ROOT}README.md`, 'utf8');
const blocks = [...readme.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, language = '', code = '']) => ({
  language,
  code,
}));

/** What the compiler has read of files: most of it are the types of Nest, and all that it compiles here imports them. */
const read = new Map<string, ts.SourceFile | undefined>();

/** Compiles `sources`, named as files beside this one, and returns what the compiler says of them. */
function compile(sources: ReadonlyMap<string, string>): string[] {
  const config = ts.readConfigFile(`${ROOT}tsconfig.json`, (path) => ts.sys.readFile(path));
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, ROOT);
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists, readFile } = host;
  host.fileExists = (path) => sources.has(path) || fileExists(path);
  host.readFile = (path) => sources.get(path) ?? readFile(path);
  host.getSourceFile = (path, target, ...rest) => {
    const source = sources.get(path);
    if (source !== undefined) return ts.createSourceFile(path, source, target);
    if (!read.has(path)) read.set(path, getSourceFile(path, target, ...rest));
    return read.get(path);
  };
  const program = ts.createProgram([...sources.keys()], options, host);
  return [...sources.keys()]
    .flatMap((path) => ts.getPreEmitDiagnostics(program, program.getSourceFile(path)))
    .map(
      ({ file, messageText }) =>
        `${file?.fileName ?? ''}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`,
    );
}

function tableRows(header: string): string[][] {
  const start = readme.indexOf(header);
  const lines = readme.slice(start).split('\n\n', 1)[0]?.split('\n') ?? [];
  return lines.slice(2).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

describe('the README', () => {
  it('has code that compiles, every block of it', () => {
    const sources = new Map(
      blocks
        .filter(({ language }) => language === 'ts')
        .map(({ code }, index) => [`${ROOT}test/package/readme-block-${index + 1}.ts`, code]),
    );
    expect(sources.size).toBeGreaterThan(5);
    expect(compile(sources)).toEqual([]);
  });

  it('notices code that does not compile', () => {
    const broken = new Map([
      [`${ROOT}test/package/readme-broken.ts`, `import { Nothing } from 'nestjs-state';\nNothing();\n`],
    ]);
    expect(compile(broken).join('\n')).toContain('Nothing');
  });

  it('has no code that neither the compiler nor another test sees', () => {
    const { scripts } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as {
      scripts: Record<string, string>;
    };
    const others = blocks.filter(({ language }) => language !== 'ts').map(({ code }) => code.trim());
    expect(others).toEqual([
      'npm install nestjs-state @nestjs/config @nestjs/schedule',
      'npm ci && npm start',
      'npm ci && npm test',
      'npm install lmdb',
      'npm install ioredis',
    ]);
    expect(Object.keys(scripts)).toEqual(expect.arrayContaining(['start', 'start:cluster', 'test']));
  });

  it('names every option with its environment keys and its default', () => {
    const rows = tableRows('| option ');
    const asked: string[] = [];
    const defaults = resolveStateOptions({}, (key) => void asked.push(key));
    expect(rows.flatMap(([, keys = '']) => keys.match(/[A-Z_]{4,}/g) ?? []).sort()).toEqual(
      [...new Set(asked)].sort(),
    );
    for (const [option = '', , expected = ''] of rows) {
      const path = option.replaceAll('`', '').split('.');
      const text = expected.replaceAll('`', '');
      const value = path.reduce<unknown>((holder, name) => {
        const fields = holder as Record<string, unknown>;
        return fields[`${name}Ms`] ?? fields[name];
      }, defaults);
      if (path[0] === 'mode') expect(value).toBe('memory');
      else if (text === '–') expect(value).toBeUndefined();
      else if (typeof value === 'number') expect(value).toBe(parseDurationMs(text));
      else expect(String(value)).toBe(text);
    }
    expect(rows.length).toBe(26);
  });

  it('links to places that exist', () => {
    const headings = [...readme.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w -]/g, '')
        .replaceAll(' ', '-'),
    );
    for (const [, target = ''] of readme.matchAll(/\]\(([^)]+)\)/g)) {
      if (target.startsWith('#')) expect(headings).toContain(target.slice(1));
      else expect(readFileSync(`${ROOT}${target}`, 'utf8')).not.toBe('');
    }
  });
});
