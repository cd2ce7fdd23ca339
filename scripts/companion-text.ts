// The companion script as text for bundles of functions: they start it themselves, so they need neither what only the layer
// needs nor the comments, nor long names. Whoever writes the script keeps to this: in a line of code ` # ` begins a comment,
// and a word in lower case with an underscore is a name.

/** @param script - src/extension/post-invoke.sh. */
export const childText = (script: string): string => {
  const names = new Map<string, string>()
  const shorten = (name: string) => {
    const short = names.get(name) ?? `_${names.size.toString(36)}`
    names.set(name, short)
    return short
  }
  return script
    .replace(/^ *# only in the layer: begin\n.*?# only in the layer: end\n/gms, '')
    .split('\n')
    .map(line => line.replace(/(^|\s)#(\s.*|!.*)?$/, '').trim())
    .filter(line => line !== '')
    .join('\n')
    .replace(/\b[a-z]+(_[a-z]+)+\b/g, shorten)
}
