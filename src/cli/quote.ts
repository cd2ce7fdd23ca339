// Words put into other languages' text. What needs no quotes gets none, as a person would write it.

const PLAIN = /^[\w@%+=:,./-]+$/

export const shell = (text: string): string => (PLAIN.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`)

/** Of what JSON can say, YAML takes all. Plain are only words that can be nothing but a string. */
export const yaml = (text: string): string =>
  /^[A-Za-z./][\w. /-]*$/.test(text) && !/^(true|false|yes|no|on|off|null|y|n|\.inf|\.nan)$|^\.[\d._]|\s$/i.test(text)
    ? text
    : JSON.stringify(text)

export const typescript = (text: string): string =>
  `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`

export const hcl = (text: string): string => JSON.stringify(text).replaceAll(/[$%](?=\{)/g, sign => sign + sign)

export const dockerCopy = (from: string, to: string): string =>
  PLAIN.test(from) ? `COPY ${from} ${to}` : `COPY ${JSON.stringify([from, to])}`
