// The function that Nitro builds, in the place of the preset's own entry, whose requests have no `waitUntil`.
import { withExecutionContext, withPostInvoke } from 'middy-post-invoke/handler'
import { useNitroApp } from 'nitro/app'
import { toLambdaHandler } from 'srvx/aws-lambda'

export const handler = withPostInvoke(toLambdaHandler(withExecutionContext(useNitroApp())))
