// examples/terraform: parsed, not planned, because Terraform's providers come from a registry of its own.
import { beforeAll, describe, expect, it } from '@jest/globals'
import { describeDeployment, expectOrders } from './deployment.ts'
import { project, python, TOOL_MS } from './project.ts'

const terraform = project('terraform')

type Block = Record<string, any>
/** Of one block: its labels, as expressions name it (`aws_lambda_function.orders`), and what is in it. */
let blocks: Map<string, Block>

beforeAll(async () => {
  await terraform.npm('build')
  const script = 'import hcl2, json, sys; print(json.dumps(hcl2.load(open(sys.argv[1]))))'
  const { code, stdout, stderr } = await python(terraform.run, ['-c', script, 'main.tf'])
  if (code !== 0) throw new Error(stderr)
  blocks = blocksOf(unquoted(JSON.parse(stdout)))
}, TOOL_MS)

/** The parser leaves strings in their quotes, and expressions in `${…}`. */
const unquoted = (value: any): any => {
  if (typeof value === 'string') return value.startsWith('"') ? JSON.parse(value) : value
  if (Array.isArray(value)) return value.map(unquoted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [unquoted(key), unquoted(inner)]))
}

const blocksOf = (file: Record<string, Block[]>) => {
  const found = new Map<string, Block>()
  for (const { ...types } of file.resource ?? []) add(found, '', types)
  for (const { ...types } of file.data ?? []) add(found, 'data.', types)
  for (const variables of file.variable ?? []) {
    for (const [name, block] of Object.entries(variables)) found.set(`var.${name}`, block)
  }
  return found
}

const add = (found: Map<string, Block>, prefix: string, types: Block) => {
  for (const [type, names] of Object.entries(types)) {
    for (const [name, block] of Object.entries<Block>(names)) found.set(`${prefix}${type}.${name}`, block)
  }
}

const block = (name: string): Block => {
  const found = blocks.get(name)
  if (found) return found
  throw new Error(`main.tf has no ${name}, only ${[...blocks.keys()].join(', ')}`)
}

const path = (text: string) => terraform.path(text.replace(/^\$\{path\.module\}\//, ''))

const expression = (text: string) => `\${${text}}`

describe('examples/terraform', () => {
  it('names nothing that is not there', () => {
    const text = JSON.stringify([...blocks.values()])
    const named = text.match(/\b(data\.\w+\.\w+|var\.\w+|aws_\w+\.\w+)(?=[.})\]])/g) ?? []
    expect(named.length).toBeGreaterThan(5)
    expect(named.filter(name => !blocks.has(name))).toEqual([])
  })

  it('attaches the layer to the function, and publishes it again when it has changed', () => {
    const { layers, runtime } = block('aws_lambda_function.orders')
    expect(layers).toEqual([expression('aws_lambda_layer_version.post_invoke.arn')])
    const { filename, source_code_hash, compatible_runtimes } = block('aws_lambda_layer_version.post_invoke')
    expect(source_code_hash).toBe(expression(`filebase64sha256("${filename}")`))
    expect(compatible_runtimes).toContain(runtime)
  })

  describeDeployment(
    () => {
      const { filename, handler, timeout, environment } = block('aws_lambda_function.orders')
      expect(filename).toBe(expression('data.archive_file.function.output_path'))
      return {
        code: path(block('data.archive_file.function').source_dir),
        handler,
        timeout,
        variables: environment[0].variables,
        layers: [path(block('aws_lambda_layer_version.post_invoke').filename)],
      }
    },
    terraform.path('handler.ts'),
    expectOrders,
  )
})
