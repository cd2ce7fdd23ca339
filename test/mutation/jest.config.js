import jest from '../../jest.config.js'

const unit = jest.projects.find(({ displayName }) => displayName === 'unit')

/** With the test files that scripts/mutation.ts names for the file that is mutated. */
export default {
  ...unit,
  displayName: 'mutation',
  rootDir: '../..',
  testMatch: (process.env.POST_INVOKE_MUTATION_TESTS ?? '').split(',').map(file => `<rootDir>/test/${file}.test.ts`),
  testTimeout: 20_000,
}
