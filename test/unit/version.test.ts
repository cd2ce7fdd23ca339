import { readFileSync } from 'node:fs'
import { expect, it } from '@jest/globals'
import { version } from '../../src/version.ts'

it('the version in src is that of package.json', () => {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  expect(version).toBe(manifest.version)
})
