import { defineConfig } from 'nitro'

export default defineConfig({ preset: 'aws-lambda', entry: './lambda.ts', serverDir: '.' })
