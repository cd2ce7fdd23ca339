import { configure } from '@codegenie/serverless-express'
import express from 'express'
import { defer, withPostInvoke } from 'middy-post-invoke/handler'
import { analytics } from '../readme/shop.ts'

const app = express()
app.use(express.json())

app.post('/orders', (request, response) => {
  defer(({ signal }) => analytics.track('order', request.body, { signal }), { name: 'analytics' })
  response.status(201).json(request.body)
})

export const handler = withPostInvoke(configure({ app }))
