// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are pieces of a bash script
// The companion script, broken in one place each: lives that fc makes up have to show it, and to say what is wrong. So what
// companion-script-lives.test.ts looks for is known to be found.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { childText } from '../../scripts/companion-text.ts'
import { live, lives, type Scripts } from '../support/companion-lives.ts'
import { source } from '../support/companion-script.ts'

const folder = mkdtempSync(join(tmpdir(), 'post-invoke-breaks-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** `text` has to stand in the script once: a break that no longer breaks anything is an error. */
type Break = [what: string, shows: RegExp, text: string, by: string]

const EARLY = /let go before it had settled/
const NEVER = /Waited in vain|It never comes to rest/
const LOGGED = /^it logged /
const COMPLAINED = /(?:^|; )it complained: / // also where that was not all
const GONE = /It has ended|it ended with|EPIPE/

const breaks: Break[] = [
  ['it lets go long before the deadline', EARLY, 'margin=100 ', 'margin=599000 '],
  ['it lets go long after the deadline', NEVER, 'margin=100 ', 'margin=-60000 '],
  ['no last words are said when time is up', LOGGED, '[[ $held ]] && say_last_words 1', ''],
  ['no last words are said when the process is gone', LOGGED, '    say_last_words 0\n', '    words=x\n'],
  ['last words are said twice', LOGGED, '    [[ ${words[0]} ]] && : >"$words_file"\n', ''],
  ['SIGTERM ends it', GONE, "trap '' TERM PIPE", "trap '' PIPE"],
  ['of chunks the last one counts', new RegExp(`${EARLY.source}|${COMPLAINED.source}`), 'body+=$line', 'body=$line'],
  [
    'numbers are not looked at',
    new RegExp(`${EARLY.source}|${GONE.source}`),
    '  [[ $1 = [1-9]*([0-9]) && ${#1} -lt 16 ]]\n',
    '  :\n',
  ],
  ['it waits for ever for the rest of an answer', NEVER, 'read -r -t 2 -N $((length', 'read -r -N $((length'],
  [
    'names of headers are known in one case only',
    COMPLAINED,
    'case ${line,,} in',
    'case ${line/#Lambda-Extension-I/lambda-extension-i} in',
  ],
  ['the beginning of an unusual answer is lost', COMPLAINED, 'left+=$body', 'left=$body'],
]

const breakIn = (text: string, by: string, index: number): Scripts => {
  const script = readFileSync(source, 'utf8')
  if (script.split(text).length !== 2) throw new Error(`Expected the script to have this once: ${text}`)
  const broken = script.replace(text, () => by)
  const layer = join(folder, `post-invoke-${index}`)
  writeFileSync(layer, broken, { mode: 0o755 })
  return { layer, internal: childText(broken) }
}

/** So many at a time: what takes long is mostly waiting. */
const SIDE_BY_SIDE = 16
const MOST_LIVES = 1_024

describe('a broken script is noticed', () => {
  it.each(breaks.map((given, index) => [...given, index] as const))(
    '%s',
    async (_, shows, text, by, index) => {
      const scripts = breakIn(text, by, index)
      const told: string[] = []
      let count = 0
      const property = fc.asyncProperty(lives, async life => {
        if (told.length > 0) return // another chain has found it
        count++
        await live(life, scripts)
      })
      await Promise.all(
        Array.from({ length: SIDE_BY_SIDE }, async (_, chain) => {
          const { errorInstance } = await fc.check(property, {
            seed: 1 + chain,
            numRuns: MOST_LIVES / SIDE_BY_SIDE,
            endOnFailure: true,
          })
          if (errorInstance) told.push((errorInstance as Error).message.split('\n')[0] as string)
        }),
      )
      console.info(`${count} lives: ${told[0]}`)
      expect(told.filter(line => shows.test(line))).not.toEqual([])
    },
    600_000,
  )
})
