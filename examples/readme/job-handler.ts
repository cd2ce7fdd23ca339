import { createJobHandler } from 'middy-post-invoke/job-handler'
import * as jobs from './jobs.ts'

export const handler = createJobHandler(jobs)
