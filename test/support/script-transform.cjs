// What `?text` imports is bundled as the text of a script; this makes Jest import it so too.
const { buildSync } = require('esbuild')

module.exports = {
  process(_text, path) {
    const { outputFiles } = buildSync({
      entryPoints: [path],
      bundle: true,
      write: false,
      platform: 'node',
      format: 'cjs',
      target: 'node22',
    })
    return { code: `export default ${JSON.stringify(outputFiles[0].text)}` }
  },
}
