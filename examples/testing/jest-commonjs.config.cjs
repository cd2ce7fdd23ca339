// Tests that are transformed to CommonJS. This package and Middy are ES modules, so they have to be transformed too.
module.exports = {
  testMatch: ['**/jest.test.ts'],
  transform: {
    '\\.[jt]s$': [
      '@swc/jest',
      { jsc: { parser: { syntax: 'typescript' }, target: 'es2023' }, module: { type: 'commonjs' } },
    ],
  },
  // `require` does not find Middy's packages: they are exported for `import` alone.
  moduleNameMapper: { '^@middy/([^/]+)$': '<rootDir>/node_modules/@middy/$1/index.js' },
  transformIgnorePatterns: ['/node_modules/(?!(middy-post-invoke|@middy)/)'],
}
