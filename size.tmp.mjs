import { build } from 'esbuild'
import { gzipSync } from 'node:zlib'
import { readFileSync, writeFileSync } from 'node:fs'
const { childText } = await import('./scripts/companion-text.ts')
const [entry, detail] = process.argv.slice(2)
const r = await build({ stdin: { contents: entry, resolveDir: process.cwd(), loader: 'ts' }, bundle: true, minify: true, format: 'esm', platform: 'node', target: 'node22', write: false, metafile: true, external: ['@middy/core'], plugins: [{name:'sh',setup(b){b.onLoad({filter:/post-invoke\.sh$/},({path})=>({contents:childText(readFileSync(path,'utf8')),loader:'text'}))}}] })
const b = r.outputFiles[0].contents
console.log(b.length, gzipSync(b).length)
writeFileSync('/tmp/min.js', b)
if (detail) for (const o of Object.values(r.metafile.outputs)) console.log(Object.entries(o.inputs).map(([k,v])=>[v.bytesInOutput,k]).sort((a,b)=>b[0]-a[0]).map(x=>x.join(' ')).join('\n'))
