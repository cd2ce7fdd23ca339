// The companion script as functions bundle it: without what only the layer runs, and with short names. No name may be text.
import { readFileSync } from 'node:fs'
import { describe, expect, it } from '@jest/globals'
import { childText, names, withoutLayer } from '../../scripts/companion-text.ts'

const script = readFileSync(new URL('../../src/extension/post-invoke.sh', import.meta.url), 'utf8')
const plain = withoutLayer(script)
/** Options apart. */
const wordsOf = (text: string): string[] => text.match(/(?<![ &]-)\b[A-Za-z_]\w*/g) ?? []

/** What is quoted, without what bash puts in. */
const quoted = /\$?'(?:\\.|[^'\\])*'|"(?:\\.|\$\{[^}]*\}|[^"\\])*"/gs
const expansion = /\$?\(\(.*?\)\)|\$\{[^}]*\}|\$\w+/g

const isShortened = (word: string) => names.includes(word as (typeof names)[number]) || /^[a-z]+(_[a-z]+)+$/.test(word)

/** Beside a hyphen a word is not shortened. */
const shortenedIn = (text: string) => wordsOf(text.replace(/[\w-]*-[\w-]*/g, '')).filter(isShortened)

describe('the companion script in bundles', () => {
  it('has no comments, and keeps what only looks like one', () => {
    expect(withoutLayer('a=$# b=c#d # f\n# g\n  if ((10#1)); then\n\n    h\n')).toBe('a=$# b=c#d\nif ((10#1)); then\nh')
  })

  it('has nothing that is marked as the layer’s', () => {
    const marked = [
      '  # only in the layer: begin',
      'a',
      '  # only in the layer: end',
      '[[ $b ]] || # only in the layer',
      '  c',
    ]
    expect(withoutLayer(`${marked.join('\n')}\n`)).toBe('c')
    expect(script).toContain('# only in the layer')
    expect(plain).not.toMatch(/only in the layer|\(\(!?\$#\)\)|mkfifo|SHUTDOWN/)
  })

  it('has the shortest name for what is used most', () => {
    expect(childText('a_b=1\nb_c() { A_B=$a_b; }\nnumber-x $number\n')).toBe('a=1\nb(){ A_B=$a;}\nnumber-x $c')
  })

  it('has no spaces but those that bash needs, or that are text', () => {
    expect(
      childText(
        'if ((a + 1 < b)) && c "d && e ; f" ; then\ng $((1 + 2)) >&3\nh "i" >&3\nj=2 >&4\nk <"l" 2>&1 &&\nm\nfi\n',
      ),
    ).toBe('if ((a+1<b))&&c "d && e ; f";then\ng $((1+2))>&3\nh "i">&3\nj=2 >&4\nk<"l" 2>&1&&m\nfi')
    expect(childText("case $a in\n'b ;; c') d || e ;;\n*) f ' || ' ;;\nesac\n")).toBe(
      "case $a in\n'b ;; c') d||e;;*) f ' || ';;esac",
    )
  })

  it('has options as short as bash takes them', () => {
    expect(childText('read -r -t 2 -N 1 -u 1 a\nread -r -t "$1" -u 3 b c\n[[ $1 -lt 16 ]]\nkill -0 "$1"\n')).toBe(
      'read -rt2 -N1 -u1 a\nread -rt "$1" -u3 b c\n[[ $1 -lt 16 ]]\nkill -0 "$1"',
    )
  })

  it('has a name of its own for each, which nothing else has', () => {
    const before = wordsOf(plain)
    const after = wordsOf(childText(script))
    expect(after).toHaveLength(before.length)
    const short = new Map(
      before.map((word, index) => [word, after[index]] as const).filter(([from, to]) => from !== to),
    )
    expect([...short.keys()].filter(word => !isShortened(word))).toEqual([])
    expect(names.filter(name => !short.has(name))).toEqual([])
    expect(new Set(short.values()).size).toBe(short.size)
    const others = [...plain.matchAll(/\$\{?[#!]?(\w+)|\b(\w+)\+?=|(\w+)\(\)/g)]
      .map(found => found.slice(1).find(name => name !== undefined) as string)
      .filter(name => !short.has(name))
    expect(others).toEqual(expect.arrayContaining(['BASH_VERSION', 'LC_ALL']))
    expect(others.filter(name => [...short.values()].includes(name))).toEqual([])
  })

  it('has the text that it had: what is quoted', () => {
    const texts = (plain.match(quoted) ?? []).map(text => text.replace(expansion, ''))
    expect(texts.join()).toContain('asking again')
    expect(texts.flatMap(shortenedIn)).toEqual([])
  })

  it('has the text that it had: what is not quoted', () => {
    const functions = [...plain.matchAll(/^(\w+)\(\)/gm)].map(([, name]) => name)
    const called = new RegExp(`(?<=^|[;&|{!] |(?:if|then|else|until|while|do) )(?:${functions.join('|')})\\b`, 'gm')
    const rest = plain
      .replace(quoted, "''")
      .replace(expansion, '')
      .replace(/\b(?:local( \w+(=\S*)?)+|(?:read|mapfile)\b[^;&|\n]*|printf -v \w+|for \w+)/g, '')
      .replace(/\w+\+?=|\w+\(\)|\{\w+\}/g, '')
      .replace(called, '')
    expect(wordsOf(rest)).toEqual(expect.arrayContaining(['settled', 'late', 'ready', 'exit']))
    expect(shortenedIn(rest)).toEqual([])
  })
})
