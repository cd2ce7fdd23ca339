// Long work: lets others run in between, and stops when its time is up.
import { setImmediate as turn } from 'node:timers/promises'
import middy from '@middy/core'
import postInvoke from 'middy-post-invoke'

const countWords = (texts: readonly string[]) => {
  const counts = new Map<string, number>()
  return {
    counts,
    async run(signal: AbortSignal) {
      for (const text of texts) {
        for (const word of text.split(' ')) counts.set(word, (counts.get(word) ?? 0) + 1)
        await turn() // no timer of the process can fire before
        signal.throwIfAborted()
      }
    },
  }
}

export const handler = middy<{ texts: string[] }>()
  .use(postInvoke())
  .handler(async ({ texts }, context) => {
    const words = countWords(texts)
    context.defer(({ signal }) => words.run(signal), { name: 'count words', timeout: 10_000 })
    return { statusCode: 202 }
  })
