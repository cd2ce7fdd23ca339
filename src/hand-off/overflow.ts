// Where one environment is not enough: what could not be done in time goes to a queue of SQS, with the function's own AWS
// SDK, which is loaded then and not before.
import { builtIn } from '../built-in.ts'
import { PostInvokeError } from '../errors.ts'

type Sqs = typeof import('@aws-sdk/client-sqs')

const CLIENT = '@aws-sdk/client-sqs'

/** Lambda's Node.js runtimes bring the SDK along. */
const RUNTIME_FOLDER = '/var/runtime/'

/** What SQS takes in one call, in messages and in bytes. */
const BATCH = { entries: 10, bytes: 262_144 }

export type Overflowing = { readonly id: string; readonly requestId: string; readonly text: string }

/**
 * @returns the file of the client.
 * @throws PostInvokeError `ERR_NO_SQS_CLIENT` when there is none.
 */
export function findSqsClient(taskRoot: string): string {
  try {
    return builtIn('node:module')
      .createRequire(RUNTIME_FOLDER)
      .resolve(CLIENT, { paths: [taskRoot, RUNTIME_FOLDER] })
  } catch {
    throw new PostInvokeError(
      'ERR_NO_SQS_CLIENT',
      `Expected the package ${CLIENT} in ${taskRoot} or ${RUNTIME_FOLDER}, because POST_INVOKE_OVERFLOW_QUEUE_URL is set.`,
    )
  }
}

/**
 * @param taskRoot - Where the function's own modules lie.
 * @returns the ids of what the queue has taken.
 * @throws what the client throws.
 */
export async function sendToQueue(
  queueUrl: string,
  taskRoot: string,
  all: readonly Overflowing[],
  abortSignal: AbortSignal,
): Promise<Set<string>> {
  const { createRequire } = builtIn('node:module')
  const { SQSClient, SendMessageBatchCommand } = createRequire(`${taskRoot}/`)(findSqsClient(taskRoot)) as Sqs
  const client = new SQSClient()
  const isFifo = queueUrl.endsWith('.fifo')
  try {
    const sent = new Set<string>()
    for (const batch of batchesOf(all)) {
      const Entries = batch.map(({ id, requestId, text }, index) => ({
        Id: String(index),
        MessageBody: toMessage(text),
        // Both hold 128 characters. What tells one piece from another stands at the end.
        ...(isFifo && { MessageGroupId: requestId.slice(-128), MessageDeduplicationId: id.slice(-128) }),
      }))
      const { Successful = [] } = await client.send(new SendMessageBatchCommand({ QueueUrl: queueUrl, Entries }), {
        abortSignal,
      })
      for (const { Id } of Successful) sent.add((batch[Number(Id)] as Overflowing).id)
    }
    return sent
  } finally {
    client.destroy()
  }
}

/** JSON may hold these two characters, a message of SQS may not. */
const toMessage = (text: string) =>
  text.replace(/[\ufffe\uffff]/g, character => `\\u${character.charCodeAt(0).toString(16)}`)

function batchesOf(all: readonly Overflowing[]): Overflowing[][] {
  const batches: Overflowing[][] = []
  let bytes = 0
  for (const one of all) {
    const size = Buffer.byteLength(one.text)
    const last = batches.at(-1)
    if (!last || last.length === BATCH.entries || bytes + size > BATCH.bytes) {
      batches.push([one])
      bytes = size
    } else {
      last.push(one)
      bytes += size
    }
  }
  return batches
}
