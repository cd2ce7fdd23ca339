import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import {
  encode,
  hello,
  MAX_LINE_BYTES,
  MAX_NAMES,
  type Message,
  MessageReader,
  PROTOCOL,
} from '../../src/extension/link.ts'
import { version } from '../../src/version.ts'

const requestId = fc.string({ maxLength: 40 })
const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({ type: fc.constant('hello' as const), protocol: fc.integer(), version: fc.string() }),
  fc.record({ type: fc.constant('settled' as const), requestId }),
  fc.record({
    type: fc.constant('tasks' as const),
    requestId,
    names: fc.array(fc.string({ unit: 'binary', maxLength: 20 }), { maxLength: MAX_NAMES }),
    more: fc.nat(),
  }),
)

/** Cuts a text at arbitrary places. */
const chunksOf = (text: string, cuts: number[]) => {
  const places = [...new Set(cuts.map(cut => cut % (text.length + 1)))].sort((a, b) => a - b)
  return [0, ...places].map((start, index) => text.slice(start, places[index] ?? text.length))
}

const readAll = (reader: MessageReader, chunks: string[]) => chunks.map(chunk => reader.read(chunk))

describe('hello', () => {
  it('names the protocol and the version', () => {
    expect(JSON.parse(encode(hello))).toEqual({ type: 'hello', protocol: PROTOCOL, version })
    expect(encode(hello).split('\n')).toHaveLength(2)
  })
})

describe('the reader', () => {
  it('reads what was written, however it is cut', () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 10 }), fc.array(fc.nat()), (messages, cuts) => {
        const reader = new MessageReader()
        const read = readAll(reader, chunksOf(messages.map(encode).join(''), cuts))
        expect(read.flat()).toEqual(messages)
        expect(reader.garbled).toBe(0)
      }),
    )
  })

  it('counts what it cannot read, and reads on', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            message.map(given => ({ line: encode(given).trimEnd(), given })),
            fc
              .oneof(
                fc.constantFrom('', '{', 'null', '42', '"text"', '[]', '{}', '{"type":"other"}', '{"type":"settled"}'),
                fc.constantFrom('{"type":"settled","requestId":1}', '{"type":"tasks","requestId":"r"}'),
                fc.constantFrom('{"type":"hello"}', '{"type":"hello","protocol":"1"}', '\u0000', '{"type":"tasks"}'),
              )
              .map(line => ({ line, given: undefined })),
          ),
          { maxLength: 20 },
        ),
        fc.array(fc.nat()),
        (lines, cuts) => {
          const reader = new MessageReader()
          const text = lines.map(({ line }) => `${line}\n`).join('')
          const expected = lines.flatMap(({ given }) => (given ? [given] : []))
          expect(readAll(reader, chunksOf(text, cuts)).flat()).toEqual(expected)
          expect(reader.garbled).toBe(lines.length - expected.length)
        },
      ),
    )
  })

  it('never throws, whatever JSON comes', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('hello', 'tasks', 'settled'),
        fc.jsonValue(),
        fc.jsonValue(),
        fc.jsonValue(),
        (type, first, second, third) => {
          const reader = new MessageReader()
          const value = { type, requestId: 'r', protocol: 1, version: first, names: [second], more: third }
          expect(reader.read(`${JSON.stringify(value)}\n`)).toHaveLength(1 - reader.garbled)
        },
      ),
    )
  })

  // What has no text of its own cannot be made one.
  it.each([
    '{"type":"hello","protocol":1,"version":{"toString":1,"valueOf":1}}',
    '{"type":"tasks","requestId":"r","names":[{"toString":1,"valueOf":1}],"more":0}',
    '{"type":"tasks","requestId":"r","names":[],"more":{"toString":1,"valueOf":1}}',
  ])('does not throw at %s', line => {
    const reader = new MessageReader()
    const read = reader.read(`${line}\n`)
    expect((read?.length ?? 0) + reader.garbled).toBe(1)
  })

  it('takes at most 50 names', () => {
    const names = Array.from({ length: 80 }, (_, index) => `t${index}`)
    const read = new MessageReader().read(encode({ type: 'tasks', requestId: 'r', names, more: 3 }))
    expect(read).toEqual([{ type: 'tasks', requestId: 'r', names: names.slice(0, MAX_NAMES), more: 3 }])
  })

  it('takes a line of the greatest length', () => {
    const empty = encode({ type: 'settled', requestId: '' }).length - 1
    const requestId = 'x'.repeat(MAX_LINE_BYTES - empty)
    const line = encode({ type: 'settled', requestId })
    expect(line).toHaveLength(MAX_LINE_BYTES + 1)
    for (const cuts of [[], [1], [MAX_LINE_BYTES], [10, 20_000, 65_000]]) {
      expect(readAll(new MessageReader(), chunksOf(line, cuts)).flat()).toEqual([{ type: 'settled', requestId }])
    }
  })

  it('gives up at a longer one, however it is cut', () => {
    const line = encode({ type: 'settled', requestId: 'x'.repeat(MAX_LINE_BYTES) })
    for (const cuts of [[line.length - 1], [10, 20_000, 65_000, line.length - 1], [line.length - 2], [5], []]) {
      const read = readAll(new MessageReader(), chunksOf(line, cuts))
      expect([cuts, read.includes(undefined)]).toEqual([cuts, true]) // short, where it fails
    }
  })

  it('gives up at an endless one, and does not keep it', () => {
    const reader = new MessageReader()
    let chunks = 0
    while (reader.read('x'.repeat(10_000)) !== undefined) chunks++
    expect(chunks).toBe(6)
  })
})
