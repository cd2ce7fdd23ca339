// examples/terraform: parsed, not planned, because Terraform's providers come from a registry of its own.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from '@jest/globals'
import { describeDeployment, expectOrders } from './deployment.ts'
import { project, python, TOOL_MS } from './project.ts'

const terraform = project('terraform')

type Block = Record<string, any>
/** Of one block: its labels, as expressions name it (`aws_lambda_function.orders`), and what is in it. */
let blocks: Map<string, Block>
/** The same of the module of the package, and where it is. */
let module: Map<string, Block>
let moduleFolder: string

beforeAll(async () => {
  await terraform.npm('build')
  blocks = await readBlocks(['main.tf'])
  const [{ source } = { source: '' }] = [blocks.get('module.post_invoke') ?? {}]
  moduleFolder = source
  module = await readBlocks(['main.tf', 'variables.tf', 'outputs.tf', 'versions.tf'].map(name => join(source, name)))
}, TOOL_MS)

const readBlocks = async (files: readonly string[]): Promise<Map<string, Block>> => {
  const script = 'import hcl2, json, sys; print(json.dumps([hcl2.load(open(name)) for name in sys.argv[1:]]))'
  const { code, stdout, stderr } = await python(terraform.run, ['-c', script, ...files])
  if (code !== 0) throw new Error(stderr)
  return new Map(unquoted(JSON.parse(stdout)).flatMap((file: Record<string, Block[]>) => [...blocksOf(file)]))
}

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
  for (const [kind, prefix] of [
    ['variable', 'var'],
    ['module', 'module'],
    ['output', 'output'],
  ] as const) {
    for (const named of file[kind] ?? []) {
      for (const [name, block] of Object.entries(named)) found.set(`${prefix}.${name}`, block)
    }
  }
  for (const locals of file.locals ?? []) {
    for (const [name, value] of Object.entries(locals)) found.set(`local.${name}`, { value })
  }
  return found
}

const add = (found: Map<string, Block>, prefix: string, types: Block) => {
  for (const [type, names] of Object.entries(types)) {
    for (const [name, block] of Object.entries<Block>(names)) found.set(`${prefix}${type}.${name}`, block)
  }
}

const block = (name: string, from = blocks): Block => {
  const found = from.get(name)
  if (found) return found
  throw new Error(`There is no ${name}, only ${[...from.keys()].join(', ')}`)
}

const path = (text: string) => terraform.path(text.replace(/^\$\{path\.module\}\//, ''))

const zipOfModule = () => {
  const { value } = block('local.zip', module)
  return terraform.path(value.replace(expression('path.module'), moduleFolder))
}

const expression = (text: string) => `\${${text}}`

describe('examples/terraform', () => {
  it('names nothing that is not there', () => {
    for (const [named, least] of [
      [blocks, 6],
      [module, 5],
    ] as const) {
      const text = JSON.stringify([...named.values()])
      const names =
        text.match(/\b(data\.\w+\.\w+|var\.\w+|local\.\w+|module\.\w+(?=\.\w)|aws_\w+\.\w+)(?=[.})\], ])/g) ?? []
      expect(names.length).toBeGreaterThanOrEqual(least)
      expect(names.filter(name => !named.has(name))).toEqual([])
    }
  })

  it('attaches the layer of the module to the function', () => {
    const { layers } = block('aws_lambda_function.orders')
    expect(layers).toEqual([expression('module.post_invoke.layer_arn')])
    expect(block('output.layer_arn', module).value).toBe(expression('aws_lambda_layer_version.this.arn'))
  })

  it('has a module that publishes the layer again when it has changed', () => {
    const { filename, source_code_hash, compatible_runtimes } = block('aws_lambda_layer_version.this', module)
    expect([filename, source_code_hash]).toEqual([expression('local.zip'), expression('filebase64sha256(local.zip)')])
    expect(compatible_runtimes).toBe(expression('var.compatible_runtimes'))
    expect(block('var.compatible_runtimes', module).default).toContain(block('aws_lambda_function.orders').runtime)
    expect(existsSync(zipOfModule())).toBe(true)
  })

  it('has a module with a type, a meaning and a default for every variable', () => {
    const variables = [...module].filter(([name]) => name.startsWith('var.'))
    expect(variables.length).toBeGreaterThan(2)
    for (const [, variable] of variables) {
      expect(variable).toEqual({
        ...variable,
        description: expect.any(String),
        type: expect.any(String),
        default: variable.default,
      })
      expect(variable).toHaveProperty('default')
    }
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
        layers: [zipOfModule()],
      }
    },
    terraform.path('handler.ts'),
    expectOrders,
  )
})
