// Answers as bytes: what is read of them, whole and cut anywhere.
import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { MAX_ANSWER_BYTES, readAnswer } from '../../src/extension/http-answer.ts'
import { thrownBy } from './helpers.ts'

const bytes = (...lines: string[]) => Buffer.from(lines.join('\r\n'))
const read = (...lines: string[]) => readAnswer(bytes(...lines), false)

describe('an answer', () => {
  it('with a length', () => {
    expect(read('HTTP/1.1 200 OK', 'Content-Length: 7', 'X-More:  a:b ', '', 'größ')).toBeUndefined()
    expect(read('HTTP/1.1 200 OK', 'Content-Length: 6', 'X-More:  a:b ', '', 'größ')).toEqual({
      status: 200,
      headers: new Map([
        ['content-length', '6'],
        ['x-more', 'a:b'],
      ]),
      body: 'größ',
      isReusable: true,
    })
  })

  it('in chunks, with extensions and trailers', () => {
    const head = ['HTTP/1.1 200 OK', 'Transfer-Encoding: Chunked', '']
    expect(read(...head, '3', 'abc', 'A;name=value', '0123456789', '0', '', '')).toMatchObject({
      body: 'abc0123456789',
      isReusable: true,
    })
    expect(read(...head, '1', 'a', '00', 'Trailer: x', 'Another: y', '', '')).toMatchObject({
      body: 'a',
      isReusable: true,
    })
    expect(read(...head, '1', 'a', '0', 'Trailer: x', '')).toBeUndefined()
  })

  it('in chunks that are cut within a character', () => {
    const ü = Buffer.from('ü')
    const head = bytes('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked', '', '')
    const chunks = [...ü].flatMap(byte => [Buffer.from('1\r\n'), Buffer.from([byte]), Buffer.from('\r\n')])
    const answer = Buffer.concat([head, ...chunks, Buffer.from('0\r\n\r\n')])
    expect(readAnswer(answer, false)?.body).toBe('ü')
  })

  it('to the end of the connection', () => {
    const answer = bytes('HTTP/1.1 200 OK', '', 'abc')
    expect(readAnswer(answer, false)).toBeUndefined()
    expect(readAnswer(answer, true)).toMatchObject({ body: 'abc', isReusable: false })
  })

  it('without a body', () => {
    expect(read('HTTP/1.1 204 No Content', '', '')).toMatchObject({ status: 204, body: '', isReusable: true })
    expect(read('HTTP/1.1 304 Not Modified', 'Content-Length: 7', '', '')).toMatchObject({ status: 304, body: '' })
    expect(read('HTTP/1.1 200 OK', 'Content-Length: 0', '', '')).toMatchObject({ status: 200, body: '' })
  })

  it('after one that only says that it is on its way', () => {
    const early = ['HTTP/1.1 100 Continue', '', 'HTTP/1.1 103 Early Hints', 'Link: x', '']
    expect(read(...early)).toBeUndefined()
    expect(read(...early, 'HTTP/1.1 403', 'Content-Length: 1', '', 'x')).toMatchObject({ status: 403, body: 'x' })
  })

  it.each([
    ['HTTP/1.1', 'Connection: close', false],
    ['HTTP/1.1', 'Connection: keep-alive', true],
    ['HTTP/1.1', 'X: y', true],
    ['HTTP/1.0', 'Connection: Keep-Alive', true],
    ['HTTP/1.0', 'X: y', false],
  ])('of %s with %s keeps the connection: %s', (version, header, isReusable) => {
    expect(read(`${version} 200 OK`, header, 'Content-Length: 0', '', '')).toMatchObject({ isReusable })
  })

  it('with something behind it does not', () => {
    expect(read('HTTP/1.1 200 OK', 'Content-Length: 1', '', 'ab')).toMatchObject({ body: 'a', isReusable: false })
  })

  it('is not whole before its last byte, wherever it is cut', () => {
    const body = fc.string({ unit: 'grapheme', maxLength: 60 }).map(text => Buffer.from(text))
    const pieces = fc.array(fc.nat({ max: 20 }), { maxLength: 5 })
    fc.assert(
      fc.property(
        body,
        pieces,
        fc.boolean(),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (body, sizes, isChunked, at) => {
          const answer = isChunked
            ? chunked(body, sizes)
            : Buffer.concat([bytes('HTTP/1.1 200 OK', `Content-Length: ${body.length}`, '', ''), body])
          expect(readAnswer(answer, false)).toMatchObject({ status: 200, body: body.toString(), isReusable: true })
          const cut = Math.floor(at * answer.length)
          expect(readAnswer(answer.subarray(0, cut), false)).toBeUndefined()
          expect(readAnswer(answer.subarray(0, cut), true)).toBeUndefined()
        },
      ),
    )
  })

  const chunked = (body: Buffer, sizes: readonly number[]) => {
    const parts: Buffer[] = [bytes('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked', '', '')]
    let rest: Buffer = body
    for (const size of [...sizes, body.length]) {
      const chunk = rest.subarray(0, size)
      rest = rest.subarray(size)
      if (chunk.length > 0) parts.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n'))
    }
    return Buffer.concat([...parts, Buffer.from('0\r\n\r\n')])
  }
})

describe('what is none', () => {
  const CHUNKED = ['HTTP/1.1 200 OK', 'Transfer-Encoding: chunked', '']
  it.each<[string[], string]>([
    [['HTTP/2 200', '', ''], 'Expected an answer of HTTP/1.1, got "HTTP/2 200"'],
    [['HTTP/1.1 20 OK', '', ''], 'Expected an answer of HTTP/1.1, got "HTTP/1.1 20 OK"'],
    [['', '', ''], 'Expected an answer of HTTP/1.1, got ""'],
    [['HTTP/1.1 200 OK', 'nothing', '', ''], 'Expected a header, got "nothing"'],
    [['HTTP/1.1 200 OK', ': x', '', ''], 'Expected a header, got ": x"'],
    [['HTTP/1.1 200 OK', 'Content-Length: -1', '', ''], 'Expected the length of a body, got "-1"'],
    [['HTTP/1.1 200 OK', 'Content-Length: 1e3', '', ''], 'Expected the length of a body, got "1e3"'],
    [['HTTP/1.1 200 OK', 'Content-Length:', '', ''], 'Expected the length of a body, got ""'],
    [
      ['HTTP/1.1 200 OK', 'Transfer-Encoding: gzip, chunked', '', ''],
      'Expected a body in chunks, got the coding gzip, chunked',
    ],
    [[...CHUNKED, 'x', ''], 'Expected a chunk\'s length, got "x"'],
    [[...CHUNKED, '-1', ''], 'Expected a chunk\'s length, got "-1"'],
    [[...CHUNKED, '', ''], 'Expected a chunk\'s length, got ""'],
    [[...CHUNKED, '123456789', ''], 'Expected a chunk\'s length, got "123456789"'],
    [[...CHUNKED, '1', 'ab', ''], 'Expected a chunk to end where it says'],
  ])('%j', (lines, message) => {
    expect(thrownBy(() => read(...lines))).toHaveProperty('message', message)
  })

  it('too long', () => {
    const answer = bytes('HTTP/1.1 200 OK', 'Content-Length: 999999999', '', 'x'.repeat(MAX_ANSWER_BYTES))
    expect(thrownBy(() => readAnswer(answer, false))).toHaveProperty(
      'message',
      'The answer has more than 1048576 bytes',
    )
  })
})
