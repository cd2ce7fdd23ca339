// On what it was measured.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { realClient } from './functions.ts'
import type { Table } from './page.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

const versionIn = (folder: string): string => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version

export const describeMachine = (): Table => {
  const dependencies = ['@middy/core', 'p-limit', 'p-queue', 'esbuild']
  const { POST_INVOKE_TEST_RIC3 = '', POST_INVOKE_TEST_RIC4 = '' } = process.env
  const node22 = execFileSync(realClient('ric3').options('').node ?? '', ['--version'], { encoding: 'utf8' }).trim()
  return {
    columns: ['', ''],
    rows: [
      ['Date', new Date().toISOString().slice(0, 10)],
      ['Processor', `${cpus()[0]?.model}, ${cpus().length} cores`],
      ['Memory', `${(totalmem() / 2 ** 30).toFixed(0)} GiB`],
      ['Linux', release()],
      [
        'Load when it began',
        loadavg()
          .map(load => load.toFixed(1))
          .join(', '),
      ],
      ['middy-post-invoke', versionIn(root)],
      ['Node.js', `${process.version}, and ${node22} with RIC 3`],
      ['aws-lambda-ric', `${versionIn(POST_INVOKE_TEST_RIC3)}, ${versionIn(POST_INVOKE_TEST_RIC4)}`],
      ...dependencies.map(name => [name, versionIn(join(root, 'node_modules', name))]),
    ],
  }
}
