import postInvoke from 'middy-post-invoke'

// #region middleware
export const middleware = postInvoke({
  metrics: { namespace: 'shop', dimensions: { service: 'orders', stage: 'production' } },
})
// #endregion
