// One answer of HTTP/1.1, read exactly and within a bound. The companion sends one small request and waits for hours: of
// all that node:http can do it needs this, and node:http takes longer to load than the rest of its start.
// https://www.rfc-editor.org/rfc/rfc9112

export type Answer = {
  readonly status: number
  /** By name, in lower case. */
  readonly headers: ReadonlyMap<string, string>
  readonly body: string
  /** Whether the connection can be used again. */
  readonly isReusable: boolean
}

/** An event of Lambda's has some hundred bytes. */
export const MAX_ANSWER_BYTES = 1_048_576

/**
 * @param bytes - All that has come so far.
 * @param hasEnded - Whether nothing more can come.
 * @returns the answer, or `undefined` while a part of it is missing.
 * @throws Error for what is no answer, or too long to be one of ours.
 */
export const readAnswer = (bytes: Buffer, hasEnded: boolean): Answer | undefined => {
  if (bytes.length > MAX_ANSWER_BYTES) throw new Error(`The answer has more than ${MAX_ANSWER_BYTES} bytes`)
  const headEnd = bytes.indexOf('\r\n\r\n')
  if (headEnd < 0) return undefined
  const [statusLine = '', ...lines] = bytes.toString('latin1', 0, headEnd).split('\r\n')
  const found = /^HTTP\/1\.([01]) (\d{3})(?: |$)/.exec(statusLine)
  if (!found) throw new Error(`Expected an answer of HTTP/1.1, got ${JSON.stringify(statusLine.slice(0, 80))}`)
  const status = Number(found[2])
  const start = headEnd + 4
  if (status < 200) return readAnswer(bytes.subarray(start), hasEnded) // 1xx: the answer follows

  const headers = new Map(lines.map(readHeader))
  const body = status === 204 || status === 304 ? noBody(start) : readBody(bytes, start, headers, hasEnded)
  if (!body) return undefined
  const connection = headers.get('connection')?.toLowerCase() ?? ''
  const isKept = found[1] === '1' ? !connection.includes('close') : connection.includes('keep-alive')
  // What follows an answer that nobody has asked for: no more of this connection.
  return { status, headers, body: body.text, isReusable: isKept && !hasEnded && body.end === bytes.length }
}

const readHeader = (line: string): [name: string, value: string] => {
  const colon = line.indexOf(':')
  if (colon <= 0) throw new Error(`Expected a header, got ${JSON.stringify(line.slice(0, 80))}`)
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
}

type Body = { readonly text: string; readonly end: number }

const noBody = (end: number): Body => ({ text: '', end })

const readBody = (
  bytes: Buffer,
  start: number,
  headers: ReadonlyMap<string, string>,
  hasEnded: boolean,
): Body | undefined => {
  const coding = headers.get('transfer-encoding')
  if (coding !== undefined) {
    if (coding.toLowerCase() !== 'chunked') throw new Error(`Expected a body in chunks, got the coding ${coding}`)
    return readChunks(bytes, start)
  }
  const length = headers.get('content-length')
  // Neither of the two: it goes to the end of the connection.
  if (length === undefined) return hasEnded ? { text: bytes.toString('utf8', start), end: bytes.length } : undefined
  if (!/^\d{1,9}$/.test(length)) throw new Error(`Expected the length of a body, got ${JSON.stringify(length)}`)
  const end = start + Number(length)
  return bytes.length < end ? undefined : { text: bytes.toString('utf8', start, end), end }
}

const readChunks = (bytes: Buffer, start: number): Body | undefined => {
  const chunks: Buffer[] = []
  for (let at = start; ; ) {
    const lineEnd = bytes.indexOf('\r\n', at)
    if (lineEnd < 0) return undefined
    const line = bytes.toString('latin1', at, lineEnd)
    const digits = /^([0-9a-f]{1,8})[\t ]*(?:;|$)/i.exec(line)?.[1]
    if (digits === undefined) throw new Error(`Expected a chunk's length, got ${JSON.stringify(line.slice(0, 80))}`)
    const size = Number.parseInt(digits, 16)
    if (size === 0) {
      // Trailers, if any, then an empty line.
      const end = bytes.indexOf('\r\n\r\n', lineEnd)
      return end < 0 ? undefined : { text: Buffer.concat(chunks).toString('utf8'), end: end + 4 }
    }
    const from = lineEnd + 2
    at = from + size + 2
    if (bytes.length < at) return undefined
    if (bytes.toString('latin1', at - 2, at) !== '\r\n') throw new Error('Expected a chunk to end where it says')
    chunks.push(bytes.subarray(from, at - 2))
  }
}
