import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

interface Manifest {
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta: Readonly<Record<string, { readonly optional?: boolean }>>;
}

const manifest = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as Manifest;

const isOptional = (peer: string): boolean => manifest.peerDependenciesMeta[peer]?.optional === true;
const peers = Object.keys(manifest.peerDependencies);

export const { version: VERSION } = manifest;
export const DEPENDENCIES = Object.keys(manifest.dependencies);
/** What an application need not have. */
export const OPTIONAL_PEERS = peers.filter((peer) => isOptional(peer));
/** What every application has that has this package. */
export const ALWAYS_THERE = [...DEPENDENCIES, ...peers.filter((peer) => !isOptional(peer))];
