// What the sources can log and throw, read from their syntax: so that the documentation can be held against it.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseSync } from '@swc/core'

/** One message, with `…` for what differs, and where it stands. */
export type SourceMessage = { readonly file: string; readonly text: string }

type Node = { readonly type: string; readonly [key: string]: any }

const LOG_METHODS = ['warn', 'error', 'warnOnce']
const ERRORS = /^(PostInvoke|Sandbox|Type)Error$/
const MAKERS = /^(invalid[A-Z]|(refuse|tooLate|unexpected)$)/
/** Makers that are given what was expected, and how their messages end. */
const ENDINGS: Readonly<Record<string, string>> = {
  invalidHook: ', got ….',
  invalidTask: ', got ….',
  invalidWork: ', got ….',
  refuse: ', got ….',
  tooLate: ' before ….',
  unexpected: ', got ….',
}

export const messagesOf = (root: string, folder: string): SourceMessage[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter(name => /\.(ts|sh)$/.test(name) && !name.endsWith('.d.ts'))
    .sort()
    .flatMap(name => {
      const file = join(folder, name)
      if (name.endsWith('.sh'))
        return complaintsOf(readFileSync(join(root, file), 'utf8')).map(text => ({ file, text }))
      const messages: SourceMessage[] = []
      const add = (expression: Node, ending?: string) => {
        const texts = textsOf(expression)
        for (const message of ending ? texts.map(text => `Expected ${text}${ending}`) : texts) {
          // Less than three words are a part of a message, or all placeholders: there is nothing to look for.
          if (message !== undefined && (message.match(/\b[a-z']+\b/gi) ?? []).length > 2)
            messages.push({ file, text: message })
        }
      }
      visit(parseSync(readFileSync(join(root, file), 'utf8'), { syntax: 'typescript' }) as unknown as Node, node => {
        if (node.type !== 'NewExpression' && node.type !== 'CallExpression') return
        const args: Node[] = (node.arguments ?? []).map(({ expression }: { expression: Node }) => expression)
        if (node.type === 'NewExpression' && ERRORS.test(node.callee.value)) {
          const message = node.callee.value === 'TypeError' ? args[0] : args[1]
          if (message) add(message)
        }
        if (node.type !== 'CallExpression') return
        const expected = args[node.callee.value === 'unexpected' ? 1 : 0] // a code comes first
        if (node.callee.type === 'Identifier' && MAKERS.test(node.callee.value) && expected)
          add(expected, ENDINGS[node.callee.value])
        const method = node.callee.type === 'MemberExpression' ? node.callee.property.value : undefined
        const message = method === 'warnOnce' ? args[1] : args[0]
        if (LOG_METHODS.includes(method) && isLog(node.callee.object) && message) add(message)
      })
      return messages
    })

/** What the script writes to the log. */
const complaintsOf = (script: string): string[] =>
  Array.from(script.matchAll(/^.*(?:complain|message=)\s*(['"])(.*?)\1.*$/gm), ([, , text = '']) =>
    text.replaceAll(/\$\{[^}]*\}|\$\w+/g, '…'),
  )

/** `log`, `this.#log`, `host.log`, `createLog(…)`, `createLayerLog(…)`. */
const isLog = (node: Node): boolean => {
  if (node.type === 'Identifier') return node.value === 'log'
  if (node.type === 'MemberExpression') return (node.property.value ?? node.property.id?.value) === 'log'
  return node.type === 'CallExpression' && /^create(Layer)?Log$/.test(node.callee.value)
}

/** The text of a string or a template, then those of the strings that stand inside its placeholders. */
const textsOf = (node: Node): string[] => {
  if (node.type === 'StringLiteral') return [node.value]
  if (node.type === 'TemplateLiteral') {
    const text = node.quasis.map(({ cooked }: { cooked: string }) => cooked).join('…')
    return [text, ...node.expressions.flatMap(stringsIn)]
  }
  return ['', ...stringsIn(node)]
}

const stringsIn = (node: Node): string[] => {
  if (node.type !== 'ConditionalExpression') return []
  return [node.consequent, node.alternate].flatMap(branch => textsOf(branch))
}

const visit = (node: Node, onNode: (node: Node) => void): void => {
  if (node === null || typeof node !== 'object') return
  if (typeof node.type === 'string') onNode(node)
  for (const value of Object.values(node)) {
    if (Array.isArray(value)) for (const item of value) visit(item, onNode)
    else visit(value, onNode)
  }
}
