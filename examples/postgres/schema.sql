create table orders (id bigint generated always as identity primary key, product text not null);
create table audit (order_id bigint not null references orders, at timestamptz not null default now());
