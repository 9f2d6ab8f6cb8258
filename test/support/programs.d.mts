export type ProgramName = 'chromium' | 'redis-server';

export interface Program {
  /** The environment variable that says where it is. */
  readonly variable: string;
  readonly names: readonly string[];
  readonly places: readonly string[];
  readonly debianPackage: string;
}

export const PROGRAMS: Readonly<Record<ProgramName, Program>>;

/** @throws when the program's variable points at nothing executable. */
export function findProgram(name: ProgramName): string | undefined;

/** @throws when it is not there. */
export function requireProgram(name: ProgramName): string;
