// For scripts/mutation.ts, which says what is mutated, and which tests run.
const name = process.env.POST_INVOKE_MUTATION_NAME

export default {
  testRunner: 'jest',
  testRunnerNodeArgs: ['--experimental-vm-modules', '--disable-warning=ExperimentalWarning'],
  jest: { projectType: 'custom', configFile: 'test/mutation/jest.config.js', enableFindRelatedTests: false },
  coverageAnalysis: 'perTest',
  ignorePatterns: ['/.cache', '/coverage', '/dist', '/bench', '/examples', '/docs', '/terraform'],
  tsconfigFile: 'none', // to read it takes an API that TypeScript 7 does not have
  tempDirName: `coverage/stryker-${name}`,
  cleanTempDir: 'always',
  reporters: ['progress-append-only', 'clear-text', 'json'],
  clearTextReporter: { allowColor: false, reportTests: false, logTests: false, reportMutants: false },
  jsonReporter: { fileName: `coverage/mutation-${name}.json` },
  concurrency: 1,
  timeoutMS: 10_000,
}
