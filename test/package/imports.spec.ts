import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join, relative } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import ts from 'typescript';
import { ALWAYS_THERE, DEPENDENCIES, OPTIONAL_PEERS, ROOT } from './manifest.js';

interface Import {
  readonly file: string;
  readonly specifier: string;
  /** `load`: runs with the file that has it. `type`: gone after compilation. `later`: `import()` in a function. */
  readonly kind: 'load' | 'type' | 'later';
}

function filesOf(folder: string, ending: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith(ending))
    .map((file) => join(ROOT, folder, file));
}

/** Every import of the file that names a package: not the relative ones, not those of Node. */
function packageImports(path: string): Import[] {
  const source = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true);
  const file = relative(ROOT, path);
  const found: Import[] = [];
  const add = (node: ts.Node | undefined, kind: Import['kind']) => {
    if (node === undefined) return;
    if (!ts.isStringLiteralLike(node)) throw new Error(`${file}: an import that is not a string literal.`);
    const isPackage = !/^(node:|\.)/.test(node.text) && !builtinModules.includes(node.text);
    if (isPackage) found.push({ file, specifier: node.text, kind });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      add(node.moduleSpecifier, isTypeOnly(node.importClause) ? 'type' : 'load');
    } else if (ts.isExportDeclaration(node)) {
      add(node.moduleSpecifier, node.isTypeOnly ? 'type' : 'load');
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      add(node.argument.literal, 'type');
    } else if (ts.isCallExpression(node)) {
      const isRequire = ts.isIdentifier(node.expression) && node.expression.text === 'require';
      if (node.expression.kind === ts.SyntaxKind.ImportKeyword || isRequire) add(node.arguments[0], 'later');
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function isTypeOnly(clause: ts.ImportClause | undefined): boolean {
  if (clause === undefined) return false;
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return true;
  const bindings = clause.namedBindings;
  return (
    clause.name === undefined &&
    bindings !== undefined &&
    ts.isNamedImports(bindings) &&
    bindings.elements.every((element) => element.isTypeOnly)
  );
}

const packageOf = (specifier: string): string =>
  specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');

const outside = (imports: Import[], allowed: readonly string[]): Import[] =>
  imports.filter(({ specifier }) => !allowed.includes(packageOf(specifier)));

const sources = filesOf('lib', '.ts').flatMap((file) => packageImports(file));
const built = filesOf('dist', '.js').flatMap((file) => packageImports(file));
const declared = filesOf('dist', '.d.ts').flatMap((file) => packageImports(file));

describe('Imports of the package', () => {
  it('are of declared dependencies and peers only', () => {
    expect(sources).not.toEqual([]);
    expect(outside(sources, [...ALWAYS_THERE, ...OPTIONAL_PEERS])).toEqual([]);
  });

  it('use every declared dependency', () => {
    const used = new Set(sources.map(({ specifier }) => packageOf(specifier)));
    expect(DEPENDENCIES.filter((dependency) => !used.has(dependency))).toEqual([]);
  });

  it('load nothing that an application need not have', () => {
    const loads = built.filter(({ kind }) => kind === 'load');
    expect(loads).not.toEqual([]);
    expect(outside(loads, ALWAYS_THERE)).toEqual([]);
    expect(outside(built, [...ALWAYS_THERE, ...OPTIONAL_PEERS])).toEqual([]);
  });

  it('need no types of what an application need not have', () => {
    expect(declared).not.toEqual([]);
    expect(outside(declared, ALWAYS_THERE)).toEqual([]);
  });
});
