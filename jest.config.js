import { availableParallelism } from 'node:os'

// The first pattern that fits is taken.
const transform = {
  'job-worker\\.ts$': '<rootDir>/test/support/script-transform.cjs',
  '^.+\\.ts$': [
    '@swc/jest',
    { jsc: { parser: { syntax: 'typescript' }, target: 'es2023' }, module: { type: 'es6' }, sourceMaps: 'inline' },
  ],
  '\\.sh$': '<rootDir>/test/support/text-transform.cjs',
}

const project = (name, extra = {}) => ({
  displayName: name,
  testMatch: [`<rootDir>/test/${name}/**/*.test.ts`],
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  transform,
  moduleNameMapper: { '^(.*)\\?text$': '$1' },
  ...extra,
})

/**
 * `unit` needs nothing; `sandbox`, `package`, `companions`, `proof` and `durable` need `npm run build`; the others what .ci/run
 * installs.
 */
const projects = [
  'unit',
  'sandbox',
  'package',
  'companions',
  'proof',
  'runtime-clients',
  'rie',
  'faults',
  'postgres',
  'durable',
  'examples',
]

export default {
  projects: projects.map(name => project(name)),
  testSequencer: './test/support/slowest-first.js',
  // What hangs is found all the same; what is slow on a busy machine does not fail.
  testTimeout: 240_000,
  // Of `it.concurrent`, for tests that do little but wait.
  maxConcurrency: 10,
  // Three also on a machine with two processors: a third of the time of most tests is waiting.
  maxWorkers: Math.max(3, availableParallelism() - 1),
}
