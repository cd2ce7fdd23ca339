// The companion script by itself: what it does with each line of the function's process and each answer of the API.
import { afterEach, describe, expect, it } from '@jest/globals'
import { type Companion, invoke, inAMinute, startCompanion, shutdown, type StartOptions } from '../support/companion-script.ts'
import { until } from '../unit/helpers.ts'

const TEST_MS = 30_000

let cleanUp = new AsyncDisposableStack()
afterEach(async () => {
  await cleanUp.disposeAsync()
  cleanUp = new AsyncDisposableStack()
})
const start = (options?: StartOptions) => startCompanion(cleanUp, options)
const asks = (companion: Companion, count: number) =>
  until(() => companion.api.asked() >= count, `it asks for event ${count}`)

describe.each(['layer', 'internal'] as const)('%s', role => {
  it('holds until settled', async () => {
    const companion = await start({ role })
    const func = companion.connect()
    func.say('open')
    for (let n = 1; n <= 3; n++) {
      await companion.api.answer(invoke(`r${n}-x`))
      func.say(`hold ${n} ${inAMinute()}`)
      await new Promise(r => setTimeout(r, 30))
      expect(companion.api.asked()).toBe(n)
      func.say(`settled ${n} r${n}-x`)
      await asks(companion, n + 1)
    }
    if (role === 'layer') {
      await companion.api.answer(shutdown)
      func.end()
    } else func.end()
    expect(await companion.ended).toBe(0)
    expect(companion.lines()).toEqual([])
    if (role === 'internal') expect(companion.replies()).toEqual(['ready'])
  }, TEST_MS)
})
