// Who hands nothing off pays nothing: what each process has loaded, asked of the process itself.
import { describe, expect, it } from '@jest/globals'
import { copyLayer } from '../support/fault-layers.ts'
import { startHandOff } from '../support/hand-off-suite.ts'
import { childrenOf } from '../support/processes.ts'
import { eventually } from '../support/run.ts'
import { builtInClient } from '../support/runtime-clients.ts'

/** Has the worker say what it has loaded, when it is asked by a signal. */
const talkative = (text: string) =>
  `process.on('SIGUSR2', () => console.log('LOADED ' + JSON.stringify({
    files: Object.keys(require.cache).map(file => require('node:path').basename(file)),
    undici: Object.getOwnPropertySymbols(globalThis).some(({ description }) => description.startsWith('undici.')),
  })))
${text}`

describe('in the layer and in the function', () => {
  it('what runs handed-off work is loaded with the first work, and undici with the first request', async () => {
    await using cleanUp = new AsyncDisposableStack()
    const layer = copyLayer(cleanUp, talkative, { file: 'post-invoke/worker.cjs' })
    await using run = await startHandOff({ client: builtInClient, companion: 'layer', layers: [layer] })
    const worker = () => childrenOf(Object.values(run.sandbox.extensionPids)[0] as number)[0]
    let asked = 0
    const ask = async () => {
      process.kill(worker() as number, 'SIGUSR2')
      const said = () => run.sandbox.logs.filter(({ text }) => text.startsWith('LOADED '))
      await eventually(() => said().length > asked, 'the worker has answered')
      return JSON.parse((said()[asked++]?.text ?? '').slice('LOADED '.length))
    }
    const has = ({ files }: { files: string[] }) => files.includes('runner.cjs')

    for (let count = 0; count < 3; count++) await run.invoke({ sleeps: 1 })
    expect(worker()).toBeUndefined()
    await run.invoke({ work: [['note']] })
    expect(await ask()).toEqual({ files: ['worker.cjs', 'runner.cjs'], undici: false })
    await run.invoke({ work: [[{ url: run.target.url }]] })
    expect(await ask()).toMatchObject({ undici: true })

    expect(has((await run.invoke({ loads: true })).body())).toBe(false)
  })

  it('without the layer likewise, in the function', async () => {
    await using run = await startHandOff({ client: builtInClient, companion: 'internal' })
    // Whether undici is there tells nothing here: Middy's own package loads the one that is built into Node.js.
    const hasRunner = async () => (await run.invoke({ loads: true })).body().files.includes('runner.cjs')
    await run.invoke({ sleeps: 1 })
    expect(await hasRunner()).toBe(false)
    await run.invoke({ work: [['note']] })
    expect(await hasRunner()).toBe(true)
  })
})
