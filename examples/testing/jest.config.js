// Tests as ES modules: node --experimental-vm-modules node_modules/jest/bin/jest.js
export default {
  testMatch: ['**/jest.test.ts'],
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '\\.ts$': ['@swc/jest', { jsc: { parser: { syntax: 'typescript' }, target: 'es2023' }, module: { type: 'es6' } }],
  },
}
