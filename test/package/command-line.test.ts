// What README.md promises to somebody new: its commands, and no others, in an empty folder, with the package as packed.
import { execFile } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from '@jest/globals'
import { parse } from 'yaml'
import { install, makeFolder, root } from './packed.ts'

const folder = makeFolder()
afterAll(() => folder[Symbol.dispose]())

const readme = readFileSync(join(root, 'README.md'), 'utf8')
const [, section = ''] = /\n## Try it\n(.*?)\n## /s.exec(readme) ?? []
const [handler = ''] = blocks(readme, 'ts')
const [first = '', second = ''] = blocks(section, 'sh')

function blocks(text: string, language: string): string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms'))].map(([, code = '']) => code)
}

const commandsOf = (block: string) => block.trim().split('\n')

/** As a person types it, with no terminal. */
const type = (command: string) =>
  new Promise<{ code: number; stdout: string; stderr: string }>(resolve => {
    // npm warns of its own settings where the machine has some that it does not know.
    const env = { ...process.env, npm_config_offline: 'true', npm_config_loglevel: 'error' }
    execFile('bash', ['-c', command], { cwd: folder.path, env }, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    )
  })

beforeAll(async () => {
  await install(folder.path) // in place of `npm install`, which would ask a registry
  rmSync(join(folder.path, 'package.json'))
  expect(await type(commandsOf(first)[0] ?? '')).toMatchObject({ code: 0 }) // `npm init`
  writeFileSync(join(folder.path, 'handler.ts'), handler)
})

it('takes no more than five commands from an empty folder to the timeline', async () => {
  const commands = commandsOf(first)
  expect(commands.length).toBeLessThanOrEqual(5)
  expect(commands).toContain('npm install middy-post-invoke @middy/core')
  const { code, stdout, stderr } = await type(commands.at(-1) ?? '')
  expect([code, stderr]).toEqual([0, ''])
  const moments = [
    'response out',
    'task audit starts',
    'task audit ended',
    'task mail starts',
    'task mail ended',
    'released',
  ]
  const found = moments.map(moment => stdout.indexOf(moment))
  expect(found).toEqual(found.toSorted((one, other) => one - other))
  expect(found[0]).toBeGreaterThan(0)
  expect(stdout).toContain('The invocation succeeded, and all 2 deferred tasks ended.')
})

it('takes two more to the layer and a template', async () => {
  const commands = commandsOf(second)
  expect(commands).toHaveLength(2)
  for (const command of commands) expect(await type(command)).toMatchObject({ code: 0, stderr: '' })
  const zip = readFileSync(join(folder.path, 'post-invoke-layer.zip'))
  expect(zip.equals(readFileSync(join(root, 'dist', 'layer.zip')))).toBe(true)
  const customTags = ['!Ref', '!GetAtt'].map(tag => ({ tag, resolve: (name: string) => ({ [tag.slice(1)]: name }) }))
  const template = parse(readFileSync(join(folder.path, 'template.yaml'), 'utf8'), { customTags })
  expect(template.Resources).toMatchObject({
    PostInvokeLayer: { Properties: { ContentUri: 'post-invoke-layer.zip' } },
    Function: { Properties: { Handler: 'handler.handler', Layers: [{ Ref: 'PostInvokeLayer' }] } },
  })
})

it('has a command of its own name in npm scripts, too', async () => {
  const { code, stdout } = await type('npx --no-install post-invoke --version')
  expect([code, stdout]).toEqual([0, expect.stringMatching(/^\d+\.\d+\.\d+\n$/)])
})
