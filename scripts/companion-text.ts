// The companion script as text for bundles of functions: they start it themselves, so they need neither what only the layer
// needs nor the comments, nor long names. Whoever writes the script keeps to this: in a line of code ` # ` begins a comment,
// a line that ends with `# only in the layer` is one of those, and a word in lower case with an underscore is a name. Of
// other words these are names; beside a hyphen they are text (`Content-length`). After `-n`, `-N`, `-t` and `-u`
// a number is the value of an option of read or mapfile, and `-r` comes before another option of it.
export const names = [
  'address',
  'ask',
  'block',
  'body',
  'closes',
  'complain',
  'connect',
  'deadline',
  'expected',
  'failures',
  'first',
  'held',
  'host',
  'identifier',
  'kind',
  'last',
  'left',
  'length',
  'limit',
  'line',
  'margin',
  'number',
  'pass',
  'pause',
  'pending',
  'port',
  'release',
  'say',
  'start',
  'status',
  'tenths',
  'words',
] as const

const aName = new RegExp(`(?<![\\w-])(?:${names.join('|')}|[a-z]+(?:_[a-z]+)+)(?![\\w-])`, 'g')

/** @param script - src/extension/post-invoke.sh. */
export const childText = (script: string): string => tighten(shorten(withoutLayer(script)))

/** What stands in quotes is text. */
const quoted = /(\$?'(?:\\.|[^'\\])*'|"(?:\\.|\$\{[^}]*\}|[^"\\])*")/s

/** Without what bash does not need: white space around operators, in arithmetic and in options, and their second hyphen. */
const tighten = (text: string): string =>
  text
    .split(quoted)
    .map((part, index) => (index % 2 === 1 ? part : tightenCode(part)))
    .join('')

const tightenCode = (code: string): string =>
  code
    .replace(/ *(&&|\|\||;;&?|;)\s*/g, '$1')
    .replace(/\(\) \{/g, '(){')
    .replace(/(?<!\d) (?=[<>])/g, '')
    .replace(/ -r -/g, ' -r')
    .replace(/( -r?[nNtu]) (?=\d)/g, '$1')
    .replace(/\(\(.*?\)\)/g, arithmetic => arithmetic.replaceAll(' ', ''))

/** What functions bundle, with its names as they are. */
export const withoutLayer = (script: string): string =>
  script
    .replace(/^ *# only in the layer: begin\n.*?# only in the layer: end\n/gms, '')
    .replace(/^.* # only in the layer\n/gm, '')
    .split('\n')
    .map(line => line.replace(/(^|\s)#(\s.*|!.*)?$/, '').trim())
    .filter(line => line !== '')
    .join('\n')

/** The name that is used most gets the shortest. */
const shorten = (text: string): string => {
  const counts = new Map<string, number>()
  for (const [name] of text.matchAll(aName)) counts.set(name, (counts.get(name) ?? 0) + 1)
  const sorted = [...counts].sort(([, one], [, other]) => other - one).map(([name]) => name)
  const short = new Map(sorted.map((name, index) => [name, letters[index] ?? `_${index.toString(36)}`]))
  return text.replace(aName, name => short.get(name) as string)
}

const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'
