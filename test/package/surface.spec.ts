import { pathToFileURL } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import ts from 'typescript';
import { ROOT } from './manifest.js';

// What users can import. A name added here is promised from the next release on; one taken away is a breaking change.
const VALUES = [
  'InjectState',
  'InjectStateSession',
  'InvalidStateManagerModeError',
  'InvalidStateOptionsError',
  'InvalidStateTokenError',
  'LockExpiredError',
  'LockTimeoutError',
  'OnState',
  'RequestStates',
  'STATE_ERROR_CODES',
  'STATE_OPTIONS',
  'State',
  'StateContext',
  'StateError',
  'StateGuard',
  'StateHealthIndicator',
  'StateIdent',
  'StateInspectorModule',
  'StateInterceptor',
  'StateManager',
  'StateManagerClosedError',
  'StateModule',
  'StateSerializationError',
  'StateSession',
  'StateStoreUnavailableError',
  'StateToken',
  'StateTokenResolver',
  'TooManyWaitersError',
  'toEvents',
];

const TYPES = [
  'DiskStateOptions',
  'Duration',
  'IdentOfContext',
  'Immutable',
  'InjectStateOptions',
  'InspectedTurn',
  'InspectedWaiter',
  'InvalidStateTokenReason',
  'JsonPatchOperation',
  'MemoryStateOptions',
  'OnMissingToken',
  'RedisStateOptions',
  'ResolvedStateOptions',
  'StateChange',
  'StateChangeEvent',
  'StateChangeReason',
  'StateDeclaration',
  'StateErrorCode',
  'StateEvent',
  'StateEventType',
  'StateHealth',
  'StateHealthThresholds',
  'StateHookEvent',
  'StateHookMethod',
  'StateHookReason',
  'StateInspection',
  'StateInspectorOptions',
  'StateManagerMode',
  'StateModuleAsyncOptions',
  'StateModuleOptions',
  'StateOptionsFactory',
  'StateStats',
  'StateTokenOptions',
  'StateTokenResolverOption',
  'StateTurn',
  'TokenSameSite',
  'TurnOptions',
];

const INDEXES = ['lib/index.ts', 'dist/index.d.ts'];
const TESTING_INDEXES = ['lib/testing.ts', 'dist/testing.d.ts'];

// One program for all of them: most of what it reads are the types of Nest.
const program = ts.createProgram(
  [...INDEXES, ...TESTING_INDEXES].map((file) => ROOT + file),
  {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    experimentalDecorators: true,
    noEmit: true,
  },
);

/** The exported names, and which of them are types only. */
function exportsOf(path: string): { values: string[]; types: string[] } {
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(path);
  const symbol = source && checker.getSymbolAtLocation(source);
  if (symbol === undefined) throw new Error(`${path} is not a module.`);
  const values: string[] = [];
  const types: string[] = [];
  for (const exported of checker.getExportsOfModule(symbol)) {
    const target = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
    (target.flags & ts.SymbolFlags.Value ? values : types).push(exported.name);
  }
  return { values: values.sort(), types: types.sort() };
}

const TESTING_VALUES = ['StateTesting', 'StateTestingClock', 'StateTestingModule'];
const TESTING_TYPES = ['StateTestingOptions'];

describe('The public surface', () => {
  it.each(INDEXES)('of %s is what is listed here', (file) => {
    const { values, types } = exportsOf(ROOT + file);
    expect(values).toEqual(VALUES.toSorted());
    expect(types).toEqual(TYPES.toSorted());
  });

  it.each(TESTING_INDEXES)('of %s is what is listed here', (file) => {
    expect(exportsOf(ROOT + file)).toEqual({ values: TESTING_VALUES, types: TESTING_TYPES });
  });

  it('has nothing for tests where applications import from', () => {
    const names = [...VALUES, ...TYPES];
    expect(names.filter((name) => /Testing/.test(name))).toEqual([]);
  });

  it('has the same values once built, and no default export', async () => {
    const built = (await import(pathToFileURL(`${ROOT}dist/index.js`).href)) as object;
    expect(Object.keys(built).sort()).toEqual(VALUES.toSorted());
  });
});
