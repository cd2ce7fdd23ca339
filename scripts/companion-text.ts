// The companion script as text for bundles of functions: they start it themselves, so they need neither what only the layer
// needs nor the comments. Whoever writes the script keeps to this: in a line of code, ` # ` begins a comment.

/** @param script - src/extension/post-invoke.sh. */
export const childText = (script: string): string =>
  script
    .replace(/^ *# only in the layer: begin\n.*?# only in the layer: end\n/gms, '')
    .split('\n')
    .map(line => line.replace(/(^|\s)#(\s.*|!.*)?$/, '').trim())
    .filter(line => line !== '')
    .join('\n')
