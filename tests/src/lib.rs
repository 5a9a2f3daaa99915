//! The lab: a fabric of network namespaces with real routers, speakers and load balancers.
